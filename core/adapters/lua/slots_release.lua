-- Give a slot back, tell the provider's state how the call went, and let run whoever is next.
--
-- ARGV  7: org, 8: ticket, 9: fence, 10: outcome (ok, failed, rate_limited, quota, neutral),
--       11: Retry-After (ms; of a 429 without one: the default), 12: tokens really used (-1: not known),
--       13: the circuit's window (ms), 14: of the circuit "attempts in the window before it may open, share of
--       failures that opens it, open (ms), longest open (ms), open after a quota code (ms)"
-- Returns {1 released or 0 the lease was lost (then nothing changed), "opened", "closed" or "",
--   reason of the opening, open for (ms), outlook…}
--
-- Atomic, since the slot must go to the next waiter in the same step, and a circuit opens once.
local id, outcome = ARGV[7] .. ' ' .. ARGV[8], ARGV[10]
local event, why, open_ms = '', '', 0

-- What a call says about the provider. The circuit's window is counted in 30 buckets.
local function learn()
  local state, now, bucket = room.state, room.now, math.floor(room.now / (tonumber(ARGV[13]) / 30))
  local counts = not state.circuit_until and (outcome == 'ok' or outcome == 'failed')
  local new = counts and redis.call('HINCRBY', room.calls, 'a ' .. bucket, 1) == 1
  local failing = state.failing_until and now < state.failing_until
  if outcome == 'ok' and counts and not new and not failing then
    return
  end

  local tuning = {}
  for number in string.gmatch(ARGV[14], '%S+') do
    tuning[#tuning + 1] = tonumber(number)
  end
  local least_attempts, share, open_for_ms, longest_ms, quota_ms = unpack(tuning)

  local function open(reason, for_ms)
    if not (state.circuit_until and now < state.circuit_until and state.circuit_why == reason) then
      event, why, open_ms = 'opened', reason, for_ms
    end
    room.set('circuit_until', now + for_ms)
    state.circuit_ms, state.circuit_why, state.probe = for_ms, reason, nil
    redis.call('DEL', room.calls)
  end

  local function count()
    if outcome == 'failed' then
      redis.call('HINCRBY', room.calls, 'f ' .. bucket, 1)
      room.set('failing_until', now + tonumber(ARGV[13]))
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
      open('failures', open_for_ms)
    end
  end

  if outcome == 'rate_limited' then
    room.set('cool_until', math.max(state.cool_until or 0, now + tonumber(ARGV[11])))
  end
  local is_probe = state.probe == id
  if outcome == 'quota' then
    open('quota', quota_ms)
  elseif is_probe and outcome == 'failed' then
    -- Twice as long as the last time; after a quota code the same again.
    local last_ms, cause = state.circuit_ms, state.circuit_why
    open(cause, cause == 'quota' and last_ms or math.min(2 * last_ms, longest_ms))
  elseif is_probe and outcome ~= 'neutral' then
    event = 'closed'
    room.set('circuit_until', nil)
    state.circuit_ms, state.circuit_why, state.probe = nil, nil, nil
  elseif counts then
    count()
  end
end

local record, tokens = room.record_of(id), tonumber(ARGV[12])
local mine = record and record[FENCE] == tonumber(ARGV[9])
if mine then
  redis.call('ZREM', room.leases, id)
  redis.call('HDEL', room.tickets, id)
  room.used = room.used - 1
  learn()
  if room.rate_gate and tokens >= 0 and room.forget_start(record) then
    record[TOKENS] = tokens
    room.count_start(record)
  end
end
room.pump()
return { mine and 1 or 0, event, why, open_ms, unpack(room.outlook()) }
