-- Put N events in their mailboxes at their acknowledgement, and say when each may run: by its sender's rate, its
-- clinic's rate, and its place in its clinic's backlog. A message that comes too early is told to wait, never
-- refused; whoever leads its conversation earlier takes it along. One after which another is likely to follow
-- waits for that. Included after mailbox_order.lua and backlog.lua.
--
-- KEYS  1: generation (mailbox_order.lua), 2: slots' queue, 3: told (backlog.lua),
--       then for each event: org, sender, known ZSET event id -> when due (Unix ms), of its mailbox lead, events,
--       done (mailbox_begin.lua), announced (mailbox_order.lua), and plan, planned, parked, sent (backlog.lua), and
--       rush, the TAT of the clinic's share of the queue
-- ARGV  1: sender's burst, 2: sender's interval (µs), 3: longest wait (µs), 4: retention of known (ms),
--       5: most events announced in a conversation, 6: the caller's generation or "", 7: patience (ms),
--       8: a clinic's interval when it takes its share of the queue (ms),
--       then for each event: org's burst (0: it is not counted), org's interval (µs), event id, LINE timestamp
--       (ms), message id or "", the text's characters, payload, how long another is waited for after it (ms;
--       0: it stands by itself, -1: what waits is not its concern), org id, name of its task
-- Returns {now (Unix ms), generation, delay 1 (ms), delay 2, …}
--
-- The rates are GCRA used as a shaper. A key holds the theoretical arrival time (TAT, Unix µs) and expires when
-- it is reached: a missing key means a full burst. What is counted is turns: a message of a conversation that
-- waits already joins its turn. Atomic, since two instances reading the same TAT would both take the same place,
-- and since an event must be known before any later one begins. TIME is the only clock, so that instances whose
-- clocks differ agree.
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)
local sender_burst, sender_interval, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local retention_ms, most = tonumber(ARGV[4]), tonumber(ARGV[5])
local patience_ms, told_every = tonumber(ARGV[7]), tonumber(ARGV[8])
local AT_ONCE, RUSH_US = 30, 20000000 -- turns of a clinic, and for how long, before it is known whether they wait
local tats, rushes = {}, {}

-- How long (µs) until the rate allows one more.
local function wait(key, burst, interval)
  local tat = tats[key] or math.max(now_us, tonumber(redis.call('GET', key) or now_us))
  tats[key] = math.max(now_us, tat)
  return math.max(0, tats[key] - (burst - 1) * interval - now_us)
end

-- In µs. Who would wait for longer than `longest` is not counted, so that later ones do not wait for them: they
-- come over the second half of that time, a sender's in their order.
local function clinic_wait(org, sender, burst, interval)
  local by_rate = wait(org, burst, interval)
  if by_rate > longest then
    return longest * (1 - tonumber(string.sub(redis.sha1hex(sender), 1, 8), 16) / 2 ^ 33)
  end
  tats[org] = tats[org] + interval
  return by_rate
end

-- In µs. Until its turns are seen to wait, and are planned, a clinic's flood takes its share of the queue, no
-- more. Those of one call come together.
local function rush_wait(key)
  local tat = math.max(now_us, tonumber(redis.call('GET', key) or now_us))
  local longest_tat = now_us + RUSH_US + AT_ONCE * told_every * 1000
  rushes[key] = math.min(longest_tat, (rushes[key] or tat) + told_every * 1000)
  return math.max(0, tat - (AT_ONCE - 1) * told_every * 1000 - now_us)
end

-- When (ms) a message's turn may run. `keys` and `args` are its event's.
local function due_of(keys, args)
  local org, sender, _, lead, events, _, _, plan, planned, parked, sent, rush = unpack(keys)
  local waits_until = tonumber(redis.call('HGET', lead, 'turn') or 0)
  if waits_until > now then
    return waits_until
  end
  local held_back = wait(sender, sender_burst, sender_interval)
  tats[sender] = tats[sender] + sender_interval
  local due = now + math.ceil(held_back / 1000)
  if held_back == 0 and redis.call('HLEN', events) == 0 then
    due = now + math.ceil(clinic_wait(org, sender, tonumber(args[1]), tonumber(args[2])) / 1000)
    local backlog = backlog_of(now, args[9], KEYS[2], KEYS[3], plan, planned, parked, sent)
    if backlog then
      due = join(backlog, args[10], due, longest / 1000, patience_ms, told_every)
    else
      due = math.max(due, now + math.ceil(rush_wait(rush) / 1000))
    end
  end
  if due > now then
    redis.call('HSET', lead, 'turn', string.format('%.0f', due))
  end
  return due
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
for i = 1, (#KEYS - 3) / 12 do
  local keys, args = { unpack(KEYS, 12 * i - 8, 12 * i + 3) }, { unpack(ARGV, 10 * i - 1, 10 * i + 8) }
  local _, _, known, lead, events, done, announced = unpack(keys)
  local org_burst, _, id, at, message_id, chars, payload, gather_ms = unpack(args)
  local due = redis.call('ZSCORE', known, id)
  if not due then
    due = tonumber(org_burst) > 0 and due_of(keys, args) or now
    due = math.max(due, now + gather(lead, events, tonumber(gather_ms)))
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
for key, tat in pairs(rushes) do
  tats[key] = tat
end
for key, tat in pairs(tats) do
  if tat > now_us then
    redis.call('SET', key, string.format('%.0f', tat), 'PX', math.ceil((tat - now_us) / 1000))
  end
end
return reply
