-- Give a slot back when nobody waits and the call went well. Included after slots_state.lua and before
-- slots_room.lua; where it does not return, slots_release.lua goes on, which says what goes in.
--
-- Returns packed numbers if released: slots used, limit, now (ms), generation
local fence, window_ms = struct.unpack('<dd', ARGV[2], 9)
local id, outcome = ARGV[3] .. ' ' .. ARGV[4], ARGV[5]
local bucket = math.floor(now / (window_ms / 30)) -- the circuit's window is counted in 30 of them
local counted = 0 -- attempts of this bucket, if this one is among them

if quiet and outcome == 'ok' and now >= failing_until then
  local packed = call('HGET', TICKETS, id)
  if packed and struct.unpack('<d', packed) == fence then
    counted = call('HINCRBY', CALLS, 'a ' .. bucket, 1)
    if counted > 1 then -- the first forgets what is too old
      call('ZREM', LEASES, id)
      call('HDEL', TICKETS, id)
      return struct.pack('<dddd', call('ZCARD', LEASES), limit, now, generation)
    end
  end
end
