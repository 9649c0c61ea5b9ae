-- When does a turn come back that was refused a slot?
--
-- KEYS  1: slots' queue, 2: told, 3: plan, 4: planned, 5: parked, 6: sent (backlog.lua), 7: lead
--       (mailbox_begin.lua)
-- ARGV  1: org, 2: name of the task that comes back, 3: for how long (ms) nobody is granted a slot, 4: when its
--       patience ends (Unix ms), 5: interval of those who are told that they were not reached (ms)
-- Returns in how many ms
--
-- Atomic, since each of those who are refused together must get a time of its own.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local name, shut_ms, patience_until = ARGV[2], tonumber(ARGV[3]), math.max(now, tonumber(ARGV[4]))
local backlog = backlog_of(now, ARGV[1], unpack(KEYS))
local room_ms = (in_room(backlog) - backlog.depth) * backlog.every_ms
local due = math.max(backlog.again, now + math.max(shut_ms, room_ms, backlog.every_ms))
if due > patience_until then
  due = park(backlog, name, patience_until, tonumber(ARGV[5]))
else
  redis.call('HSET', backlog.plan, 'again', string.format('%.3f', due + backlog.every_ms))
  put(backlog.planned, due, name, now)
end
due = math.ceil(due)
redis.call('HSET', KEYS[7], 'turn', string.format('%.0f', due))
return due - now
