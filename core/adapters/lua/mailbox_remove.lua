-- Take a message that its sender has unsent out of the mailbox, and keep it out.
--
-- KEYS  1: events HASH, 2: done ZSET (see mailbox_begin.lua), 3: announced (mailbox_order.lua)
-- ARGV  1: LINE's message id, 2: retention (ms), 3: most done marks
-- Returns 1 if it was waiting, else 0
--
-- Atomic, since the message's own task may begin at the same moment and would put it in again. The mark is
-- set in any case: tasks come in any order, and one that was put back comes again. TIME is the only clock.
local events, done, announced = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local removed = 0
local stored = redis.call('HGETALL', events)
for i = 1, #stored, 2 do
  local event = cjson.decode(string.match(stored[i + 1], '|%d+|(.*)$'))
  if event.message_id == ARGV[1] and event.kind ~= 'unsend' then
    removed = redis.call('HDEL', events, stored[i])
    redis.call('ZREM', announced, stored[i])
  end
end
redis.call('ZADD', done, now, ARGV[1])
redis.call('ZREMRANGEBYRANK', done, 0, -tonumber(ARGV[3]) - 1)
redis.call('PEXPIRE', done, ARGV[2])
return removed
