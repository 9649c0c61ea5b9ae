-- Ask for a slot: queue the ticket, then let run whoever is next. As everybody queues first, nobody barges.
-- Included after slots_acquire_free.lua, which reads the arguments.
--
-- ARGV  2: … longest wait (ms), the clinic's own cap (0: none), tokens (estimate), place kept from an
--       earlier wait (0: none), waiters that a clinic may have, 1 if it has another provider to go to; 3: org, 4: ticket, 5: nonce of this request,
--       6: wake channel of this process
-- Returns {status, outlook…: place, fence, waited (ms)}; status is "granted", "waiting", "taken" (the ticket
--   waits or runs on behalf of another request), "room_full", or the provider's reason why it can't run in
--   time: "circuit", "cooldown", "rate"; "too_large": it asks for more tokens than a minute
--   has, and never can.
--
-- Atomic, since between looking and queueing the last free slot may go to somebody else, or come free unseen.
-- Asking again with the same nonce (a connection was cut) changes nothing and says how it stands.
local deadline = room.now + wait_ms
local record = record_of(id)
room.asker = nonce

if not record then
  -- What the clinic and this instance ask with is kept: the pump and operators' commands must know it too.
  if room.seen ~= ARGV[1] then
    room.seen, room.changed = ARGV[1], true
  end
  if own_cap == 0 and caps[2] then
    call('HDEL', room.caps, 'own ' .. org)
  elseif own_cap > 0 and tonumber(caps[2]) ~= own_cap then
    call('HSET', room.caps, 'own ' .. org, own_cap)
    room.capped, room.changed = 1, true
  end

  local place = next_tick()
  if kept_place > 0 and kept_place < place then
    place = kept_place
  end
  record = { 0, place, room.now, deadline, tokens, 0, nonce, ARGV[6] }
  local function refuse(why)
    pump()
    return { why, outlook(place, 0, 0) }
  end

  if by_tokens and tokens > room.tokens_limit then
    return refuse('too_large')
  end
  local shut_until, shut_by, certain = gate()
  -- Who can go elsewhere waits for no circuit, nor for its probe.
  if (certain and shut_until > deadline) or (elsewhere > 0 and shut_by == 'circuit') then
    return refuse(shut_by)
  end
  local member, last = member_of(org, place, ticket), nil
  if call('ZLEXCOUNT', room.queue, '[' .. org .. ' ', '(' .. org .. '!') >= org_room then
    -- Who came back to an earlier place takes it from the last one: else a clinic's FIFO would end at its room.
    last = call('ZREVRANGEBYLEX', room.queue, '(' .. org .. '!', '[' .. org .. ' ', 'LIMIT', 0, 1)[1]
    if member > last then
      return refuse('room_full')
    end
  end
  call('ZADD', room.queue, 0, member)
  keep_waiting(member, math.min(deadline, room.now + room.lease_ms))
  keep_record(id, record)
  call('ZADD', room.orgs, 'NX', next_tick(), org)
  if last then
    local evicted = record_of(id_of(org, last))
    stop_waiting(org, last)
    local shut_ms = certain and math.ceil(shut_until - room.now) or 0
    call('PUBLISH', evicted[CHANNEL], string.format('%s 0 %d', evicted[NONCE], shut_ms))
  end
end

local used_before = room.used
pump()
if room.used > used_before then
  record = record_of(id)
end
local status, fence, waited_ms = 'waiting', 0, 0
if record[NONCE] ~= nonce then
  status = 'taken'
elseif record[FENCE] > 0 then
  status, fence, waited_ms = 'granted', record[FENCE], record[GRANTED] - record[SINCE]
end
return { status, outlook(record[PLACE], fence, waited_ms) }
