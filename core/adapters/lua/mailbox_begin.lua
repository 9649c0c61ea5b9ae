-- Put an event in its conversation's mailbox and try to lead: one turn at a time in a conversation.
--
-- KEYS  1: lead HASH {fence, until, by; since, gather: of what nobody leads yet, when the oldest arrived and
--       until when another is waited for, turn: when its turn is due (shape.lua)}; 2: events HASH event id ->
--       "timestamp|characters|payload", the newest ones; 3: overflow ZSET event id -> LINE timestamp, the ids of
--       those beyond; 4: done ZSET event id or unsent message id -> when; 5: session; 6: announced
--       (mailbox_order.lua); 7: known ZSET event id -> when due (shape.lua); 8: generation (mailbox_order.lua);
--       9: the clinic's mark STRING (redis_clinic_marks.py)
-- ARGV  1: event id, 2: message id or "", 3: LINE timestamp (ms), 4: the text's characters, 5: payload,
--       6: this call's own id, 7: lease (ms), 8: session TTL (ms), 9: retention of all else (ms),
--       10: most events kept, 11: most characters of them, 12: most overflow ids, 13: how long what was
--       announced and is due waits for its task (ms), 14: retention of known (ms), 15: most known ids,
--       16: the caller's generation or ""
-- Returns {"done", now, generation} | {"held", now, generation, rest of the lease (ms)}
--       | {"gathering" or "redis_lost", now, generation, when to come again (ms)}
--       | {"lead", now, generation, fence, session or false, events' values in any order, overflow ids oldest
--         first, the clinic's mark or false}
--
-- Atomic, since an event put in after its leader has looked and before it has left would be answered by
-- nobody, and since two that find the lease free must not both lead. TIME is the only clock.
local TOLERANCE_MS = 50 -- a task may begin a little before its time
local lead, events, overflow, done, session, announced, known, generation, mark = unpack(KEYS)
local id, message_id, by = ARGV[1], ARGV[2], ARGV[6]
local lease_ms, session_ttl_ms, retention_ms = tonumber(ARGV[7]), ARGV[8], ARGV[9]
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)
local now_generation = generation_of(generation, now_us, ARGV[16])

-- Its task has begun; whoever delivers it again need not announce it.
redis.call('ZREM', announced, id)
forget_overdue(announced, events, overflow, now - tonumber(ARGV[13]))
redis.call('ZADD', known, 'NX', now, id)
redis.call('ZREMRANGEBYSCORE', known, '-inf', now - tonumber(ARGV[14]))
redis.call('ZREMRANGEBYRANK', known, 0, -tonumber(ARGV[15]) - 1)
redis.call('PEXPIRE', known, ARGV[14])

local unsent = message_id ~= '' and redis.call('ZSCORE', done, message_id)
redis.call('ZREM', overflow, id)
if unsent or redis.call('ZSCORE', done, id) then
  redis.call('HDEL', events, id)
  return { 'done', now, now_generation }
end

redis.call('HSET', events, id, ARGV[3] .. '|' .. ARGV[4] .. '|' .. ARGV[5])
local kept, chars = {}, 0
local stored = redis.call('HGETALL', events)
for i = 1, #stored, 2 do
  local timestamp, length = string.match(stored[i + 1], '^(%-?%d+)|(%d+)|')
  kept[#kept + 1] = { id = stored[i], timestamp = tonumber(timestamp), chars = tonumber(length) }
  chars = chars + tonumber(length)
end
table.sort(kept, function(a, b)
  return a.timestamp > b.timestamp or (a.timestamp == b.timestamp and a.id > b.id)
end)
while #kept > 1 and (#kept > tonumber(ARGV[10]) or chars > tonumber(ARGV[11])) do
  local oldest = table.remove(kept)
  chars = chars - oldest.chars
  redis.call('HDEL', events, oldest.id)
  redis.call('ZADD', overflow, oldest.timestamp, oldest.id)
end
local excess = redis.call('ZCARD', overflow) - tonumber(ARGV[12])
if excess > 0 then
  -- The event at hand stays, however old: if it leads, it must find itself.
  for _, old in ipairs(redis.call('ZRANGE', overflow, 0, excess)) do
    if excess > 0 and old ~= id then
      redis.call('ZREM', overflow, old)
      excess = excess - 1
    end
  end
end
redis.call('PEXPIRE', events, retention_ms)
redis.call('PEXPIRE', overflow, retention_ms)

local last = redis.call('HMGET', lead, 'fence', 'until', 'by', 'gather')
local fence, ends = tonumber(last[1] or 0), tonumber(last[2] or 0)
if ends <= now or last[3] ~= by then
  local recovery = recovery_ms(generation, now, lease_ms)
  if recovery > 0 then
    return { 'redis_lost', now, now_generation, recovery }
  elseif ends > now then
    return { 'held', now, now_generation, ends - now }
  end
  local gather = tonumber(last[4] or 0)
  if gather - now > TOLERANCE_MS then
    -- The one that is due then leads, if there is one, and takes this one along.
    local leads_then = redis.call('ZCOUNT', announced, now, gather + TOLERANCE_MS) > 0
    return { 'gathering', now, now_generation, gather - now + (leads_then and lease_ms or 0) }
  end
  -- From the clock, so that it rises also after Redis came back empty; past the last one, so that it rises
  -- also when a failover sets the clock back.
  fence = math.max(now_us, fence + 1)
end
redis.call('HSET', lead, 'fence', fence, 'until', now + lease_ms, 'by', by)
redis.call('HDEL', lead, 'since', 'gather', 'turn')
redis.call('PEXPIRE', lead, retention_ms)
redis.call('PEXPIRE', session, session_ttl_ms)
return {
  'lead',
  now,
  now_generation,
  fence,
  redis.call('GET', session),
  redis.call('HVALS', events),
  redis.call('ZRANGE', overflow, 0, -1),
  redis.call('GET', mark),
}
