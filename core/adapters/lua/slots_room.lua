-- What the operations share when it is not only about their caller, and the sweep of what has expired.
-- Included after slots_state.lua.
local MINUTE_MS, NEVER = 60000, 1e15
local FENCE, PLACE, SINCE, DEADLINE, TOKENS, GRANTED, NONCE, CHANNEL = 1, 2, 3, 4, 5, 6, 7, 8
local STARTED_AS = DEADLINE -- of a lease

-- In one table, since a function costs less the fewer variables it captures.
local room = {
  leases = LEASES, queue = QUEUE, waits = WAITS, orgs = ORGS, tickets = TICKETS, state = STATE, caps = CAPS,
  calls = CALLS, starts = STARTS, tokens = TOKEN_BOOK,
  configured_limit = configured_limit, org_limit = org_limit, lease_ms = lease_ms, claim_ms = claim_ms,
  requests_limit = requests_limit, tokens_limit = tokens_limit,
  lease_due = lease_due, wait_due = wait_due, last_tick = last_tick, set_limit = set_limit, capped = capped,
  saving_until = saving_until, cool_until = cool_until, failing_until = failing_until,
  circuit_until = circuit_until, circuit_ms = circuit_ms, seen = seen, circuit_why = circuit_why,
  probe = probe, generation = generation, lost_until = lost_until,
  now = now, now_us = now_us, limit = limit, ceiling = ceiling, by_operator = false, kept_tick = last_tick, used = 0, changed = false,
  held = false, asker = '', nobody_waits = false, shut_until = false, shut_by = '', shut_certain = false,
  spent = 0, saving = false, lacks = NEVER,
}

-- Places, fences and ticks are numbers of one sequence that follows the clock (µs), so that it goes on rising
-- when Redis has lost its data. It is kept for when the clock goes back or an operation takes more numbers than
-- microseconds; else once a second will do, which spares most operations the write.
local function next_tick()
  room.last_tick = room.last_tick < room.now_us and room.now_us or room.last_tick + 1
  room.changed = room.changed or room.last_tick > room.now_us + 8 or room.last_tick > room.kept_tick + 1000000
  return room.last_tick
end

local function record_of(id)
  local packed = call('HGET', room.tickets, id)
  return packed and { struct.unpack(RECORD_FORMAT, packed) }
end

local function keep_record(id, record)
  call('HSET', room.tickets, id, struct.pack(RECORD_FORMAT, unpack(record)))
end

local function keep_lease(id, expiry)
  call('ZADD', room.leases, expiry, id)
  if expiry < room.lease_due then
    room.lease_due, room.changed = expiry, true
  end
end

local function member_of(org, place, ticket)
  return string.format('%s %016.0f %s', org, place, ticket)
end

-- The ticket's id, "org ticket", of a member of the queue.
local function id_of(org, member)
  return org .. ' ' .. string.sub(member, #org + 19)
end

-- Up to `count` of a clinic's waiters, first come first. Clinics' names are made of a-z, 0-9 and "-", which
-- all sort after "!".
local function heads(org, count)
  return call('ZRANGEBYLEX', room.queue, '[' .. org .. ' ', '(' .. org .. '!', 'LIMIT', 0, count)
end

local function keep_waiting(member, expiry)
  call('ZADD', room.waits, expiry, member)
  if expiry < room.wait_due then
    room.wait_due, room.changed = expiry, true
  end
end

local function stop_waiting(org, member)
  call('ZREM', room.queue, member)
  call('ZREM', room.waits, member)
  call('HDEL', room.tickets, id_of(org, member))
  if #heads(org, 1) == 0 then
    call('ZREM', room.orgs, org)
  end
end

if not packed_state then
  room.generation, room.changed = room.now_us, true
end
if known_generation > 0 and known_generation ~= room.generation and room.lost_until == 0 then
  -- Those who held a slot are unknown here and may still be calling the provider. Who lives renews within a third
  -- of its lease, and is taken in again; until that has surely come to pass, nobody gets a slot.
  room.lost_until, room.changed = room.generation / 1000 + math.min(room.lease_ms, room.lease_ms / 3 + 1000), true
  room.cool_until = math.max(room.cool_until, room.lost_until)
end

if room.lease_due <= room.now then
  for _, id in ipairs(call('ZRANGEBYSCORE', room.leases, '-inf', room.now)) do
    call('ZREM', room.leases, id)
    call('HDEL', room.tickets, id)
  end
  room.lease_due, room.changed = tonumber(call('ZRANGE', room.leases, 0, 0, 'WITHSCORES')[2] or NEVER), true
end
if room.wait_due <= room.now then
  for _, member in ipairs(call('ZRANGEBYSCORE', room.waits, '-inf', room.now)) do
    stop_waiting(string.match(member, '^%S+'), member)
  end
  room.wait_due, room.changed = tonumber(call('ZRANGE', room.waits, 0, 0, 'WITHSCORES')[2] or NEVER), true
end
room.used = call('ZCARD', room.leases)
