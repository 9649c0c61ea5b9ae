-- Announce N events at their acknowledgement, and say when each may run by its clinic's rate and its sender's:
-- GCRA used as a shaper. A message that comes too early is counted in and told to wait, never refused.
--
-- KEYS  1: generation (mailbox_order.lua),
--       then for each event: org, sender, coming (mailbox_order.lua), known ZSET event id -> when due (Unix ms)
-- ARGV  1: sender's burst, 2: sender's interval (µs), 3: longest wait (µs), 4: retention of known (ms),
--       5: most events announced in a conversation, 6: the caller's generation or "",
--       then for each event: org's burst (0: it is not counted), org's interval (µs), event id, LINE timestamp
--       (ms), message id or ""
-- Returns {now (Unix ms), generation, delay 1 (ms), delay 2, …}
--
-- A key holds the theoretical arrival time (TAT, Unix µs) and expires when it is reached: a missing key
-- means a full burst. Atomic, since two instances reading the same TAT would both take the same place, and
-- since an event must be known before any later one begins. TIME is the only clock, so that instances whose
-- clocks differ agree.
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)
local sender_burst, sender_interval, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local retention_ms, most = tonumber(ARGV[4]), tonumber(ARGV[5])
local tats = {}

local function wait(key, burst, interval)
  local tat = tats[key] or math.max(now_us, tonumber(redis.call('GET', key) or now_us))
  tats[key] = math.max(now_us, tat)
  return math.max(0, tats[key] - (burst - 1) * interval - now_us)
end

-- In µs. Who would wait for longer than `longest` is not counted, so that later ones do not wait for them: one
-- sender's come together, then, and those of many senders over the second half of that time, a sender's in
-- their order.
local function delay_of(org, sender, org_burst, org_interval)
  local org_wait = wait(org, org_burst, org_interval)
  local sender_wait = wait(sender, sender_burst, sender_interval)
  if math.max(org_wait, sender_wait) <= longest then
    tats[org] = tats[org] + org_interval
    tats[sender] = tats[sender] + sender_interval
    return math.max(org_wait, sender_wait)
  elseif sender_wait > longest then
    return longest
  end
  return longest * (1 - tonumber(string.sub(redis.sha1hex(sender), 1, 8), 16) / 2 ^ 33)
end

local reply = { now, generation_of(KEYS[1], now_us, ARGV[6]) }
for i = 1, (#KEYS - 1) / 4 do
  local org, sender, coming, known = unpack(KEYS, 4 * i - 2, 4 * i + 1)
  local org_burst, org_interval, id, at, message_id = unpack(ARGV, 5 * i + 2, 5 * i + 6)
  local due = redis.call('ZSCORE', known, id)
  if not due then
    org_burst = tonumber(org_burst)
    local delay = org_burst > 0 and delay_of(org, sender, org_burst, tonumber(org_interval)) or 0
    due = now + math.ceil(delay / 1000)
    redis.call('ZADD', known, due, id)
    redis.call('PEXPIRE', known, due - now + retention_ms)
    -- One that is older may have been known before, and answered.
    if tonumber(at) > now - retention_ms and redis.call('HLEN', coming) < most then
      redis.call('HSET', coming, id, table.concat({ at, string.format('%.0f', due), 0, message_id }, '|'))
      redis.call('PEXPIRE', coming, due - now + retention_ms)
    end
  end
  reply[i + 2] = math.max(0, tonumber(due) - now)
end
for key, tat in pairs(tats) do
  if tat > now_us then
    redis.call('SET', key, string.format('%.0f', tat), 'PX', math.ceil((tat - now_us) / 1000))
  end
end
return reply
