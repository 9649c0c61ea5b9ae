-- Take a ticket back that will not be used: out of the queue, or its slot if it was granted meanwhile.
--
-- ARGV  2: … tokens, place; 3: org, 4: ticket, 5: nonce of the request
-- Returns {outlook…}; the reason and how long no grant is certain are those of this very request
--
-- Atomic, since the grant may come at the same time: the slot must then go to the next waiter, and a call that
-- was never made must not count against the rates. Another request's ticket is left alone.
local org, ticket = ARGV[3], ARGV[4]
local id = org .. ' ' .. ticket
local record = record_of(id)
if record and record[NONCE] == ARGV[5] then
  if record[FENCE] == 0 then
    stop_waiting(org, member_of(org, record[PLACE], ticket))
  else
    call('ZREM', room.leases, id)
    call('HDEL', room.tickets, id)
    room.used = room.used - 1
    if rated then
      forget_start(record)
    end
  end
end
pump()
if by_tokens then
  local tokens, place = struct.unpack('<dd', ARGV[2], 33)
  explain({ [TOKENS] = tokens, [PLACE] = place })
end
return { outlook() }
