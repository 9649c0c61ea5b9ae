-- Give a slot back, tell the provider's state how the call went, and let run whoever is next.
--
-- ARGV  7: org, 8: ticket, 9: fence, 10: outcome (ok, failed, rate_limited, quota, neutral),
--       11: Retry-After (ms; of a 429 without one: the default), 12: tokens really used (-1: not known),
--       13: the circuit's window (ms), 14: attempts in it before it may open, 15: share of failures that opens
--       it, 16: open (ms), 17: longest open (ms), 18: open after a quota code (ms)
-- Returns {1 released or 0 the lease was lost (then nothing changed), "opened", "closed" or "",
--   reason of the opening, open for (ms), outlook…}
--
-- Atomic, since the slot must go to the next waiter in the same step, and a circuit opens once.
local id, outcome = ARGV[7] .. ' ' .. ARGV[8], ARGV[10]
local retry_after_ms, tokens = tonumber(ARGV[11]), tonumber(ARGV[12])
local window_ms, least_attempts, share = tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15])
local event, why, open_ms = '', '', 0

local function open(reason, for_ms)
  if not (room.state.circuit_until and room.state.circuit_until > room.now and room.state.circuit_why == reason) then
    event, why, open_ms = 'opened', reason, for_ms
  end
  room.set('circuit_until', room.now + for_ms)
  room.state.circuit_ms, room.state.circuit_why, room.state.probe = for_ms, reason, nil
  redis.call('DEL', room.calls)
end

local function close()
  event = 'closed'
  room.set('circuit_until', nil)
  room.state.circuit_ms, room.state.circuit_why, room.state.probe = nil, nil, nil
end

-- The window is counted in 30 buckets. Calls that went well only add to theirs while none has failed lately.
local function count()
  local bucket = math.floor(room.now / (window_ms / 30))
  local new = redis.call('HINCRBY', room.calls, 'a ' .. bucket, 1) == 1
  if outcome == 'failed' then
    redis.call('HINCRBY', room.calls, 'f ' .. bucket, 1)
    room.set('failing_until', room.now + window_ms)
  end
  if not new and (room.state.failing_until or 0) < room.now then
    return
  end
  local sums, calls = { a = 0, f = 0 }, redis.call('HGETALL', room.calls)
  for i = 1, #calls, 2 do
    local kind, at = string.match(calls[i], '(%a) (%d+)')
    if tonumber(at) <= bucket - 30 then
      redis.call('HDEL', room.calls, calls[i])
    else
      sums[kind] = sums[kind] + tonumber(calls[i + 1])
    end
  end
  if sums.a >= least_attempts and sums.f >= share * sums.a then
    open('failures', tonumber(ARGV[16]))
  end
end

local function learn(record)
  local state = room.state
  local is_probe = state.probe == id
  if outcome == 'rate_limited' then
    room.set('cool_until', math.max(room.state.cool_until or 0, room.now + retry_after_ms))
  end
  if outcome == 'quota' then
    open('quota', tonumber(ARGV[18]))
  elseif is_probe and outcome == 'failed' then
    -- Twice as long as the last time; after a quota code the same again.
    local again_ms, why = state.circuit_ms, state.circuit_why
    open(why, why == 'quota' and again_ms or math.min(2 * again_ms, tonumber(ARGV[17])))
  elseif is_probe and outcome ~= 'neutral' then
    close()
  elseif not room.state.circuit_until and (outcome == 'ok' or outcome == 'failed') then
    count()
  end
  if tokens >= 0 and redis.call('ZREM', room.starts, room.start_of(record)) == 1 then
    room.set('tokens', room.state.tokens + tokens - record[TOKENS])
    record[TOKENS] = tokens
    redis.call('ZADD', room.starts, record[GRANTED], room.start_of(record))
  end
end

local record = room.record_of(id)
local mine = record and record[FENCE] == tonumber(ARGV[9])
if mine then
  redis.call('ZREM', room.leases, id)
  redis.call('HDEL', room.tickets, id)
  room.used = room.used - 1
  learn(record)
end
room.pump()
return { mine and 1 or 0, event, why, open_ms, unpack(room.outlook()) }
