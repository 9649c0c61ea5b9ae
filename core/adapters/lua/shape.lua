-- When may each of N messages run, by its clinic's rate and its sender's? GCRA used as a shaper: a message
-- that comes too early is counted in and told to wait, never refused.
--
-- KEYS  2N: org 1, sender 1, org 2, sender 2, …
-- ARGV  1: sender's burst, 2: sender's interval (µs), 3: longest wait (µs),
--       then for each message: org's burst, org's interval (µs)
-- Returns {now (Unix ms), delay 1 (ms), delay 2, …}
--
-- A key holds the theoretical arrival time (TAT, Unix µs) and expires when it is reached: a missing key
-- means a full burst. Atomic, since two instances reading the same TAT would both take the same place.
-- TIME is the only clock, so that instances whose clocks differ agree.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local sender_burst, sender_interval, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tats = {}

local function wait(key, burst, interval)
  local tat = tats[key] or math.max(now, tonumber(redis.call('GET', key) or now))
  tats[key] = math.max(now, tat)
  return math.max(0, tats[key] - (burst - 1) * interval - now)
end

local reply = { math.floor(now / 1000) }
for i = 1, #KEYS / 2 do
  local org, sender = KEYS[2 * i - 1], KEYS[2 * i]
  local org_burst, org_interval = tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
  local org_wait = wait(org, org_burst, org_interval)
  local sender_wait = wait(sender, sender_burst, sender_interval)
  local delay = math.max(org_wait, sender_wait)
  if delay <= longest then
    tats[org] = tats[org] + org_interval
    tats[sender] = tats[sender] + sender_interval
  end
  -- So far behind, messages come at the same moment, and later ones do not wait for them.
  reply[i + 1] = math.ceil(math.min(delay, longest) / 1000)
end
for key, tat in pairs(tats) do
  if tat > now then
    redis.call('SET', key, string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000))
  end
end
return reply
