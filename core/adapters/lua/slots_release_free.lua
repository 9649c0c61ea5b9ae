-- Give a slot back when nobody waits and the call went well. Included after slots_state.lua and before
-- slots_room.lua; where it does not return, slots_release.lua goes on, which says what goes in.
--
-- Returns packed numbers if released: slots used, limit, now (ms), generation
local fence, window_ms, retry_after_ms, tokens = struct.unpack('<dddd', ARGV[2], 33)
local id, outcome = ARGV[3] .. ' ' .. ARGV[4], ARGV[5]
local bucket = math.floor(now / (window_ms / 30)) -- the circuit's window is counted in 30 of them
local counted = 0 -- attempts of this bucket, if this one is among them

if quiet and outcome == 'ok' and now >= failing_until then
  local packed = call('HGET', TICKETS, id)
  if packed and struct.unpack('<d', packed) == fence then
    local estimate, granted = struct.unpack('<dd', packed, 33)
    counted = call('HINCRBY', CALLS, 'a ' .. bucket, 1 + (now - granted) * LATENCY_UNIT) % LATENCY_UNIT
    if counted > 1 then -- the first forgets what is too old
      call('ZREM', LEASES, id)
      call('HDEL', TICKETS, id)
      if tokens_limit > 0 and tokens >= 0 then
        if call('ZREM', STARTS, string.format('%.0f %d', fence, estimate)) == 1 then
          call('ZADD', STARTS, granted, string.format('%.0f %d', fence, tokens))
          call('HINCRBY', TOKEN_BOOK, 'spent', tokens - estimate)
        end
      end
      return struct.pack('<dddd', call('ZCARD', LEASES), limit, now, generation)
    end
  end
end
