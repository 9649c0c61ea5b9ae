-- Ask for a slot when nobody waits: queueing the ticket and letting it run would come to the same. Included
-- after slots_state.lua and before slots_room.lua; where it does not return, slots_acquire.lua goes on, which
-- says what goes in.
--
-- Returns packed numbers if granted: slots used, limit, now (ms), generation, place, fence
local wait_ms, own_cap, tokens, kept_place, org_room, elsewhere = struct.unpack('<dddddd', ARGV[2], 33)
local org, ticket, nonce = ARGV[3], ARGV[4], ARGV[5]
local id = org .. ' ' .. ticket

local cap, caps = own_cap > 0 and own_cap or org_limit, {}
if capped > 0 or own_cap > 0 then
  caps = call('HMGET', CAPS, 'set ' .. org, 'own ' .. org)
  cap = tonumber(caps[1]) or cap
end

-- What there is to be kept is slots_acquire.lua's.
quiet = quiet and seen == ARGV[1] and tonumber(caps[2] or 0) == own_cap and lease_due <= now + claim_ms
-- Of what was started and spent, some may be forgotten: then slots_rates.lua does.
if quiet and requests_limit > 0 then
  quiet = call('ZCARD', STARTS) < requests_limit
end
if quiet and tokens_limit > 0 then
  quiet = tonumber(call('HGET', TOKEN_BOOK, 'spent') or tokens_limit) + tokens <= tokens_limit
end
local used = quiet and call('ZCARD', LEASES) or limit
if used < limit then
  local held, own, find = 0, org .. ' ', string.find
  if used >= cap then
    for _, holder in ipairs(call('ZRANGE', LEASES, 0, -1)) do
      if find(holder, own, 1, true) == 1 then
        held = held + 1
      end
    end
  end
  local place, fence = kept_place > 0 and kept_place < now_us and kept_place or now_us, now_us + 1
  local record = struct.pack(RECORD_FORMAT, fence, place, now, used + 1, tokens, now, nonce, ARGV[6])
  if held < cap and call('HSETNX', TICKETS, id, record) == 1 then
    call('ZADD', LEASES, now + claim_ms, id)
    if requests_limit + tokens_limit > 0 then
      call('ZADD', STARTS, now, string.format('%.0f %d', fence, tokens))
      if tokens_limit > 0 then
        call('HINCRBY', TOKEN_BOOK, 'spent', tokens)
      end
    end
    return struct.pack('<dddddd', used + 1, limit, now, generation, place, fence)
  end
end
