-- What the mailbox's scripts and the shaper share: the order of a conversation's messages, also across a loss
-- of Redis' data. It stands at the head of each of them (redis_mailbox.py).
--
-- `coming` HASH event id -> "timestamp|due|until|message id": acknowledged by the webhook, not begun yet. Later
-- ones let it go first until `until`, which is set when the first of them misses it, and 0 before.
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

-- Those that are still expected: a list of {id, at, due, till, message_id}. What nobody missed is forgotten
-- `forget_ms` after it was due.
local function still_coming(coming, now, forget_ms)
  local found, stored = {}, redis.call('HGETALL', coming)
  for i = 1, #stored, 2 do
    local at, due, till, message_id = string.match(stored[i + 1], '^(%-?%d+)|(%d+)|(%d+)|(.*)$')
    local one = { id = stored[i], at = tonumber(at), due = tonumber(due), till = tonumber(till) }
    one.message_id = message_id
    if (one.till > 0 and one.till or one.due + forget_ms) > now then
      found[#found + 1] = one
    else
      redis.call('HDEL', coming, one.id)
    end
  end
  return found
end

-- Of the mailbox' values, those that are not later than `cut`.
local function up_to(values, cut)
  local kept = {}
  for _, value in ipairs(values) do
    if tonumber(string.match(value, '^(%-?%d+)|')) <= cut then
      kept[#kept + 1] = value
    end
  end
  return kept
end
