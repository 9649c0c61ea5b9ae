-- Learn the clinic's pace from a turn that was granted a slot, and say who may come before the planned time since
-- fewer wait in the room than should.
--
-- KEYS  1: slots' queue, 2: told, 3: plan, 4: planned, 5: parked, 6: sent (backlog.lua)
-- ARGV  1: org, 2: how long (ms) the granted turn had waited (-1: none was granted), 3: "1" if they come
-- Returns {how many turns are planned or parked, name of a task that may run now, …}
--
-- Atomic, since two that look at the same time would bring the same one forward.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local backlog = backlog_of(now, ARGV[1], unpack(KEYS))
if not backlog then
  return { 0 }
end
local waited = tonumber(ARGV[2])
if waited >= 0 then
  -- Time in which nobody waited says nothing of the pace.
  local took = now - math.max(backlog.last, now - waited)
  local kept = math.exp(-took / FADE_MS)
  redis.call('HSET', backlog.plan, 'granted', backlog.granted * kept + 1, 'during', backlog.during * kept + took,
    'last', now)
  redis.call('PEXPIRE', backlog.plan, KEPT_MS)
end

local reply, room = { 0 }, ARGV[3] == '1' and backlog.depth - in_room(backlog) or 0
for _, key in ipairs({ backlog.planned, backlog.parked }) do
  local first = redis.call('ZRANGEBYSCORE', key, '(' .. now, '+inf', 'LIMIT', 0, math.max(0, room))
  for _, name in ipairs(first) do
    redis.call('ZREM', key, name)
    put(backlog.sent, now + ON_THE_WAY_MS, name, now)
    reply[#reply + 1], room = name, room - 1
  end
  reply[1] = reply[1] + redis.call('ZCOUNT', key, '(' .. now, '+inf')
end
return reply
