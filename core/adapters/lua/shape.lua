-- Put N events in their mailboxes at their acknowledgement, and say when each may run by its clinic's rate and
-- its sender's: GCRA used as a shaper. A message that comes too early is counted in and told to wait, never
-- refused; whoever leads its conversation earlier takes it along. One after which another is likely to follow
-- waits for that.
--
-- KEYS  1: generation (mailbox_order.lua),
--       then for each event: org, sender, known ZSET event id -> when due (Unix ms), and of its mailbox lead,
--       events, done (mailbox_begin.lua), announced (mailbox_order.lua)
-- ARGV  1: sender's burst, 2: sender's interval (µs), 3: longest wait (µs), 4: retention of known (ms),
--       5: most events announced in a conversation, 6: the caller's generation or "",
--       then for each event: org's burst (0: it is not counted), org's interval (µs), event id, LINE timestamp
--       (ms), message id or "", the text's characters, payload, how long another is waited for after it (ms;
--       0: it stands by itself, -1: what waits is not its concern)
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

-- For how long (ms) what waits in a conversation waits for another, now that this one came: its newest says
-- so, up to three times that since the oldest arrived.
local function gather(lead, events, wait_ms)
  if wait_ms < 0 then
    return 0
  end
  redis.call(redis.call('EXISTS', events) == 1 and 'HSETNX' or 'HSET', lead, 'since', now)
  local ends = math.min(now + wait_ms, tonumber(redis.call('HGET', lead, 'since')) + 3 * wait_ms)
  redis.call('HSET', lead, 'gather', ends)
  return math.max(0, ends - now)
end

-- Never sooner than what is kept there already expires.
local function keep(key, ms)
  if redis.call('PTTL', key) < ms then
    redis.call('PEXPIRE', key, ms)
  end
end

local reply = { now, generation_of(KEYS[1], now_us, ARGV[6]) }
for i = 1, (#KEYS - 1) / 7 do
  local org, sender, known, lead, events, done, announced = unpack(KEYS, 7 * i - 5, 7 * i + 1)
  local org_burst, org_interval, id, at, message_id, chars, payload, gather_ms = unpack(ARGV, 8 * i - 1, 8 * i + 6)
  local due = redis.call('ZSCORE', known, id)
  if not due then
    org_burst = tonumber(org_burst)
    local delay = org_burst > 0 and delay_of(org, sender, org_burst, tonumber(org_interval)) or 0
    due = now + math.max(math.ceil(delay / 1000), gather(lead, events, tonumber(gather_ms)))
    local kept_ms = due - now + retention_ms
    redis.call('ZADD', known, due, id)
    keep(known, kept_ms)
    keep(lead, kept_ms)
    -- One that is older may have been known before, and answered; one may be unsent before it comes.
    local is_new = tonumber(at) > now - retention_ms and not redis.call('ZSCORE', done, message_id)
    if is_new and redis.call('ZCARD', announced) < most then
      -- Ages are measured by this clock: of two fields of one name, the last one counts.
      payload = string.sub(payload, 1, -2) .. ',"arrived_ms":' .. now .. '}'
      redis.call('HSET', events, id, at .. '|' .. chars .. '|' .. payload)
      redis.call('ZADD', announced, due, id)
      keep(events, kept_ms)
      keep(announced, kept_ms)
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
