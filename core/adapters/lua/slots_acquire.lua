-- Ask for a slot: queue the ticket, then let run whoever is next. As everybody queues first, nobody barges.
--
-- ARGV  7: org, 8: ticket, 9: nonce of this request, 10: wake channel of this process, 11: longest wait (ms),
--       12: the clinic's own cap (0: none), 13: tokens (estimate), 14: place kept from an earlier wait (0: none),
--       15: waiters that a clinic may have
-- Returns {status, place, fence, waited (ms), outlook…}; status is "granted", "waiting", "taken" (the ticket
--   waits or runs on behalf of another request), "room_full", or the provider's reason why it can't run in
--   time: "circuit", "cooldown", "rate".
--
-- Atomic, since between looking and queueing the last free slot may go to somebody else, or come free unseen.
-- Asking again with the same nonce (a connection was cut) changes nothing and says how it stands.
local org, ticket, nonce, own_cap = ARGV[7], ARGV[8], ARGV[9], ARGV[12]
local deadline, tokens = room.now + tonumber(ARGV[11]), tonumber(ARGV[13])
local id = org .. ' ' .. ticket
local record, place = room.record_of(id), nil
local shut_until, reason, certain = room.gate(tokens)

if not record then
  -- What the clinic and this instance ask with is kept: the pump and operators' commands must know it too.
  local caps = redis.call('HMGET', room.caps, 'set ' .. org, 'own ' .. org, '*')
  local configured = ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[5] .. ' ' .. ARGV[6]
  if caps[3] ~= configured then
    redis.call('HSET', room.caps, '*', configured)
  end
  if own_cap == '0' and caps[2] then
    redis.call('HDEL', room.caps, 'own ' .. org)
  elseif own_cap ~= '0' and caps[2] ~= own_cap then
    redis.call('HSET', room.caps, 'own ' .. org, own_cap)
  end

  local kept_place = tonumber(ARGV[14])
  place = room.next_tick()
  if kept_place > 0 and kept_place < place then
    place = kept_place
  end
  local free = room.used < room.limit and not shut_until and redis.call('EXISTS', room.orgs) == 0
  local cap = tonumber(caps[1] or own_cap ~= '0' and own_cap or room.org_limit)
  if free and (room.used == 0 or (room.holders()[org] or 0) < cap) then
    -- Nobody waits: queueing the ticket and letting it run would come to the same.
    record = { 0, place, nonce, ARGV[10], room.now, deadline, tokens, 0 }
    room.nobody = true
    room.lease(id, org, record)
    return { 'granted', place, record[FENCE], 0, unpack(room.outlook()) }
  end
end

local function refuse(why)
  room.pump()
  return { why, place, 0, 0, unpack(room.outlook()) }
end

if not record then
  if certain and shut_until > deadline then
    return refuse(reason)
  end
  local member, last = room.member_of(org, place, ticket), nil
  if redis.call('ZLEXCOUNT', room.queue, '[' .. org .. ' ', '(' .. org .. '!') >= tonumber(ARGV[15]) then
    -- Who came back to an earlier place takes it from the last one: else a clinic's FIFO would end at its room.
    last = redis.call('ZREVRANGEBYLEX', room.queue, '(' .. org .. '!', '[' .. org .. ' ', 'LIMIT', 0, 1)[1]
    if member > last then
      return refuse('room_full')
    end
  end
  record = { 0, place, nonce, ARGV[10], room.now, deadline, tokens, 0 }
  redis.call('ZADD', room.queue, 0, member)
  room.keep_waiting(member, math.min(deadline, room.now + room.lease_ms))
  redis.call('HSET', room.tickets, id, cmsgpack.pack(record))
  redis.call('ZADD', room.orgs, 'NX', room.next_tick(), org)
  if last then
    local evicted = room.record_of(room.id_of(org, last))
    room.stop_waiting(org, last)
    redis.call('PUBLISH', evicted[CHANNEL], evicted[NONCE] .. ' 0')
  end
end

local used = room.used
room.pump()
if room.used > used then
  record = room.record_of(id)
end
local status, fence, waited_ms = 'waiting', 0, 0
if record[NONCE] ~= nonce then
  status = 'taken'
elseif record[FENCE] > 0 then
  status, fence, waited_ms = 'granted', record[FENCE], record[GRANTED] - record[SINCE]
end
return { status, record[PLACE], fence, waited_ms, unpack(room.outlook()) }
