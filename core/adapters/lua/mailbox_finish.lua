-- End a turn: mark its events done, store the session, then hand over or go on with what has arrived.
--
-- KEYS  as mailbox_begin.lua
-- ARGV  1: fence, 2: "1" to go on if events wait, 3: "1" if there is a session to store, 4: session,
--       5: lease (ms), 6: session TTL (ms), 7: retention of all else (ms), 8: most done marks,
--       9…: ids of the events that are done
-- Returns false if the fence no longer holds (nothing was written), else
--       {events' values in any order, overflow ids oldest first, the clinic's mark or false}, all empty when
--       the lease was given up: none is due yet, another is waited for, or after a loss of data it is not known who came first
--
-- Atomic, since an event that arrives between the look and the giving up would wait for nobody, and since
-- a leader that was overtaken must not overwrite its successor's session. TIME is the only clock.
local lead, events, overflow, done, session, announced, _, generation, mark = unpack(KEYS)
local lease_ms, session_ttl_ms, retention_ms = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)
if not leads(lead, generation, ARGV[1], now_us) then
  return false
end

for i = 9, #ARGV do
  redis.call('HDEL', events, ARGV[i])
  redis.call('ZREM', announced, ARGV[i])
  redis.call('ZREM', overflow, ARGV[i])
  redis.call('ZADD', done, now, ARGV[i])
end
redis.call('ZREMRANGEBYSCORE', done, '-inf', now - retention_ms)
redis.call('ZREMRANGEBYRANK', done, 0, -tonumber(ARGV[8]) - 1)
redis.call('PEXPIRE', done, retention_ms)
if ARGV[3] == '1' then
  redis.call('SET', session, ARGV[4], 'PX', session_ttl_ms)
else
  redis.call('PEXPIRE', session, session_ttl_ms)
end

local due = redis.call('HLEN', events)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', announced, '(' .. now, '+inf')) do
  due = due - redis.call('HEXISTS', events, id)
end
-- Ids alone are nothing to answer: their own tasks bring the events again.
local goes_on = ARGV[2] == '1'
  and due > 0
  and tonumber(redis.call('HGET', lead, 'gather') or 0) <= now
  and recovery_ms(generation, now, lease_ms) == 0
redis.call('HSET', lead, 'until', goes_on and now + lease_ms or 0)
redis.call('PEXPIRE', lead, retention_ms)
if not goes_on then
  return { {}, {}, false }
end
redis.call('HDEL', lead, 'since', 'gather', 'turn')
return { redis.call('HVALS', events), redis.call('ZRANGE', overflow, 0, -1), redis.call('GET', mark) }
