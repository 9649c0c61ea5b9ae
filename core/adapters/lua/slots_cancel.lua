-- Take a ticket back that will not be used: out of the queue, or its slot if it was granted meanwhile.
--
-- ARGV  7: org, 8: ticket, 9: nonce of the request
-- Returns {outlook…}
--
-- Atomic, since the grant may come at the same time: the slot must then go to the next waiter, and a call that
-- was never made must not count against the rates. Another request's ticket is left alone.
local org, ticket = ARGV[7], ARGV[8]
local id = org .. ' ' .. ticket
local record = room.record_of(id)
if record and record[NONCE] == ARGV[9] then
  if record[FENCE] == 0 then
    room.stop_waiting(org, room.member_of(org, record[PLACE], ticket))
  else
    redis.call('ZREM', room.leases, id)
    redis.call('HDEL', room.tickets, id)
    room.used = room.used - 1
    if room.rate_gate then
      room.forget_start(record)
    end
  end
end
room.pump()
return room.outlook()
