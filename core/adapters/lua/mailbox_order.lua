-- What the mailbox's scripts and the shaper share: who is expected, and what a loss of Redis' data means. It
-- stands at the head of each of them (redis_mailbox.py).
--
-- `announced` ZSET event id -> when due (ms): acknowledged by the webhook and put in the mailbox, while its own
-- task has not begun yet. Whoever leads takes it along.
-- `generation` HASH {id, lost}, which never expires: id is the moment (µs) at which Redis was found empty, so it
-- names the data that is there now. `lost` says that there was some before: 'perhaps', since a process knew
-- another generation, or 'surely', since somebody leads who became leader before.

-- The present generation, made if there is none. `known`: the one that the caller saw last, or ''.
local function generation_of(generation, now_us, known)
  local id = redis.call('HGET', generation, 'id')
  if not id then
    id = string.format('%.0f', now_us)
    redis.call('HSET', generation, 'id', id)
  end
  if known ~= '' and known ~= id then
    redis.call('HSETNX', generation, 'lost', 'perhaps')
  end
  return id
end

-- For how long (ms) after a loss nobody may become leader. Who leads is heard of within a third of its lease;
-- if somebody does, all that was put back until a lease's end must have come, too, before the order is known.
local function recovery_ms(generation, now, lease_ms)
  local id, lost = unpack(redis.call('HMGET', generation, 'id', 'lost'))
  local lasts = ({ perhaps = lease_ms / 3, surely = lease_ms })[lost]
  return lasts and math.max(0, math.ceil(tonumber(id) / 1000 + lasts + 500 - now)) or 0
end

-- Does `fence` lead? Who led when Redis lost its data leads on, unless somebody else has led since.
local function leads(lead, generation, fence, now_us)
  local last = redis.call('HMGET', lead, 'fence', 'until')
  if last[1] then
    return last[1] == fence and last[2] ~= '0'
  end
  if tonumber(fence) >= tonumber(generation_of(generation, now_us, '')) then
    return false
  end
  redis.call('HSET', generation, 'lost', 'surely')
  redis.call('HSET', lead, 'fence', fence)
  return true
end

-- Of what was announced, what is overdue leaves the mailbox: its task was never enqueued, or brings it again.
local function forget_overdue(announced, events, overflow, before)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', announced, '-inf', before)) do
    redis.call('HDEL', events, id)
    redis.call('ZREM', overflow, id)
    redis.call('ZREM', announced, id)
  end
end
