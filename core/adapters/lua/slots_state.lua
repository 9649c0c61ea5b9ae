-- The beginning of every slots operation: keys, options, clock, then the sweep of what has expired. Redis
-- runs a script alone, so an operation sees and leaves a state in which nobody who could run is waiting.
--
-- KEYS, the same for every operation
--   1 leases   ZSET  "org ticket" -> expiry (ms). The only truth about who holds a slot: counts are derived
--                    from it, so none can leak.
--   2 queue    ZSET  "org place ticket", all scores 0: every clinic's FIFO in one lexical order
--   3 waits    ZSET  member of queue -> when it counts as dead (liveness mark, at most its deadline; ms)
--   4 orgs     ZSET  clinic that has waiters -> tick of its last grant or its activation
--   5 tickets  HASH  "org ticket" -> packed record (below), of waiters and of leases
--   6 state    packed map  n: last tick; limit: an operator's; tokens: of the last minute; lease_due, wait_due:
--                    no lease and no waiter expires before (ms); cool_until; failing_until: the circuit looks at
--                    its calls until then; while it is not closed circuit_until, circuit_ms, circuit_why, probe
--   7 caps     HASH  "own ORG" -> cap that the clinic last asked with, "set ORG" -> an operator's, which wins;
--                    "*" -> "limit cap requests tokens" that instances last ran with, for operators' commands
--   8 calls    HASH  "a BUCKET" -> attempts, "f BUCKET" -> failures: what the circuit counts
--   9 starts   ZSET  "fence tokens" -> ms: grants of the last minute, kept while there is a rate
-- ARGV, the same for every operation
--   1 limit, 2 a clinic's cap, 3 lease (ms), 4 claim (ms), 5 requests and 6 tokens a minute (0: no limit)
--
-- All that the operations share is in one table, since each variable that a function captures costs time on
-- every call of the script.
local time, packed_state = redis.call('TIME'), redis.call('GET', KEYS[6])
local now_us = time[1] * 1000000 + time[2]
local room = {
  leases = KEYS[1], queue = KEYS[2], waits = KEYS[3], orgs = KEYS[4], tickets = KEYS[5],
  caps = KEYS[7], calls = KEYS[8], starts = KEYS[9],
  org_limit = tonumber(ARGV[2]), lease_ms = tonumber(ARGV[3]), claim_ms = tonumber(ARGV[4]),
  requests_limit = tonumber(ARGV[5]), tokens_limit = tonumber(ARGV[6]),
  now = math.floor(now_us / 1000), now_us = now_us,
  state = packed_state and cmsgpack.unpack(packed_state) or { n = 0, lease_due = 0, wait_due = 0, tokens = 0 },
  changed = false, kept_n = 0, limit = 0, used = 0, held = false, nobody = false,
  shut_until = false, shut_by = false, shut_certain = false,
  -- The operations' functions follow; named here, they find a table that is large enough.
  set = false, next_tick = false, record_of = false, member_of = false, id_of = false, heads = false,
  keep_lease = false, keep_waiting = false, stop_waiting = false,
}
room.limit, room.kept_n = room.state.limit or tonumber(ARGV[1]), room.state.n
local MINUTE_MS, NEVER = 60000, 1e15

-- A record's fields.
local FENCE, PLACE, NONCE, CHANNEL, SINCE, DEADLINE, TOKENS, GRANTED = 1, 2, 3, 4, 5, 6, 7, 8

function room.set(field, value)
  room.state[field], room.changed = value, true
end

-- Places, fences and ticks are numbers of one sequence that follows the clock (µs), so that it goes on rising
-- when Redis has lost its data. It is kept for when the clock goes back or an operation takes more numbers than
-- microseconds; else once a second will do, which spares most operations the write.
function room.next_tick()
  local tick = math.max(room.state.n + 1, room.now_us)
  room.state.n = tick
  room.changed = room.changed or tick > room.now_us + 8 or tick > room.kept_n + 1000000
  return tick
end

function room.record_of(id)
  local packed = redis.call('HGET', room.tickets, id)
  return packed and cmsgpack.unpack(packed)
end

function room.member_of(org, place, ticket)
  return string.format('%s %016.0f %s', org, place, ticket)
end

-- The ticket's id, "org ticket", of a member of the queue.
function room.id_of(org, member)
  return org .. ' ' .. string.sub(member, #org + 19)
end

-- Up to `count` of a clinic's waiters, first come first. Clinics' names are made of a-z, 0-9 and "-", which
-- all sort after "!".
function room.heads(org, count)
  return redis.call('ZRANGEBYLEX', room.queue, '[' .. org .. ' ', '(' .. org .. '!', 'LIMIT', 0, count)
end

function room.keep_lease(id, expiry)
  redis.call('ZADD', room.leases, expiry, id)
  if expiry < room.state.lease_due then
    room.set('lease_due', expiry)
  end
end

function room.keep_waiting(member, expiry)
  redis.call('ZADD', room.waits, expiry, member)
  if expiry < room.state.wait_due then
    room.set('wait_due', expiry)
  end
end

function room.stop_waiting(org, member)
  redis.call('ZREM', room.queue, member)
  redis.call('ZREM', room.waits, member)
  redis.call('HDEL', room.tickets, room.id_of(org, member))
  if #room.heads(org, 1) == 0 then
    redis.call('ZREM', room.orgs, org)
  end
end

if room.state.lease_due <= room.now then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', room.leases, '-inf', room.now)) do
    redis.call('ZREM', room.leases, id)
    redis.call('HDEL', room.tickets, id)
  end
  room.set('lease_due', tonumber(redis.call('ZRANGE', room.leases, 0, 0, 'WITHSCORES')[2] or NEVER))
end
if room.state.wait_due <= room.now then
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', room.waits, '-inf', room.now)) do
    room.stop_waiting(string.match(member, '^%S+'), member)
  end
  room.set('wait_due', tonumber(redis.call('ZRANGE', room.waits, 0, 0, 'WITHSCORES')[2] or NEVER))
end
room.used = redis.call('ZCARD', room.leases)
