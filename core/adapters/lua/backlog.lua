-- What the backlog's scripts and the shaper share: a clinic's line before the slots, and when a place in it is
-- likely due. It stands at the head of each of them (redis_backlog.py).
--
-- `plan` HASH {granted, during, last, again, depth}: turns of the clinic that were granted a slot while others of
-- it waited, and the time (ms) that this took, both fading; the last one (ms); until when those who were refused
-- are spread (ms); how many are to wait in the room, so that no slot is idle. There is one while the clinic's
-- turns wait, and for a while after.
-- `planned` ZSET task's name -> when due (ms): those on the queue whose place comes. `parked`: those whose place
-- does not come within their patience. `sent` ZSET name -> when it is surely there (ms): dispatched at once.
-- `told` STRING when the last one is due who is told that they were not reached (ms), of all clinics: so they
-- leave the queue room, however many they are.
-- The slots' `queue` (slots_state.lua) has those who wait in the room.
local FADE_MS, ON_THE_WAY_MS, KEPT_MS = 15000, 1000, 600000

-- How many wait in the room or are on their way to it.
local function in_room(backlog)
  return redis.call('ZLEXCOUNT', backlog.queue, '[' .. backlog.org .. ' ', '(' .. backlog.org .. '!')
    + redis.call('ZCOUNT', backlog.sent, '(' .. backlog.now, '+inf')
end

-- Nil if the clinic has none.
local function backlog_of(now, org, queue, told, plan, planned, parked, sent)
  local kept = redis.call('HMGET', plan, 'granted', 'during', 'last', 'again', 'depth')
  return kept[1] and {
    now = now, org = org, queue = queue, told = told, plan = plan, planned = planned, parked = parked,
    sent = sent,
    every_ms = tonumber(kept[2]) / tonumber(kept[1]), granted = tonumber(kept[1]), during = tonumber(kept[2]),
    last = tonumber(kept[3]), again = tonumber(kept[4]), depth = tonumber(kept[5]),
  } or nil
end

local function put(key, due, name, now)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  redis.call('ZADD', key, due, name)
  redis.call('PEXPIRE', key, KEPT_MS)
end

-- When (ms) one is due that is told it was not reached, from `patience_until` on.
local function park(backlog, name, patience_until, told_every)
  local due = math.max(patience_until, tonumber(redis.call('GET', backlog.told) or 0))
  redis.call('SET', backlog.told, string.format('%.3f', due + told_every), 'PX',
    math.ceil(due + told_every - backlog.now))
  put(backlog.parked, due, name, backlog.now)
  return math.ceil(due)
end

-- When (ms) a new one is due, at the end of the line.
local function join(backlog, name, earliest, longest_ms, patience_ms, told_every)
  local now = backlog.now
  local ahead = in_room(backlog) + redis.call('ZCOUNT', backlog.planned, '(' .. now, '+inf')
  local due = earliest
  if ahead >= backlog.depth then
    local last = tonumber(redis.call('ZRANGE', backlog.planned, -1, -1, 'WITHSCORES')[2] or 0)
    due = math.max(due, last, now + math.ceil((ahead + 1 - backlog.depth) * backlog.every_ms))
  end
  if due - now > longest_ms then
    return park(backlog, name, now + patience_ms, told_every)
  elseif due == now then
    put(backlog.sent, now + ON_THE_WAY_MS, name, now)
  elseif due > earliest then -- else it must not come before, since the rate forbids it
    put(backlog.planned, due, name, now)
  end
  return due
end
