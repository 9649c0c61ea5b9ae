-- Give a slot back, tell the provider's state how the call went, and let run whoever is next. Included after
-- slots_release_free.lua, which reads the arguments.
--
-- ARGV  2: … fence, the circuit's window (ms), Retry-After (ms; of a 429 without one: the default, below 0), tokens really
--       used (-1: not known), and of the circuit: attempts in the window before it may open, share of failures
--       that opens it, open (ms), longest open (ms), open after a quota code (ms);
--       3: org, 4: ticket, 5: outcome (ok, failed, rate_limited, quota, neutral)
-- Returns {"opened", "closed" or "", reason of the opening, outlook…: 1 released or 0 the lease was lost (then
--   nothing changed), open for (ms)}
--
-- Atomic, since the slot must go to the next waiter in the same step, and a circuit opens once.
local least_attempts, share, open_for_ms, longest_ms, quota_ms = struct.unpack('<ddddd', ARGV[2], 65)
local event, why, open_ms = '', '', 0

-- What a call says about the provider.
local function learn(record)
  local counts = room.circuit_until == 0 and (outcome == 'ok' or outcome == 'failed')
  if counts and counted == 0 then
    local took_ms = outcome == 'ok' and room.now - record[GRANTED] or 0
    counted = call('HINCRBY', room.calls, 'a ' .. bucket, 1 + took_ms * LATENCY_UNIT) % LATENCY_UNIT
  end
  if outcome == 'ok' and counted > 1 and room.now >= room.failing_until then
    return
  end

  local function open(reason, for_ms)
    -- While there is another provider to go to, trying costs little.
    for_ms = learnt.probe_ms > 0 and math.min(for_ms, learnt.probe_ms) or for_ms
    if not (room.now < room.circuit_until and room.circuit_why == reason) then
      event, why, open_ms = 'opened', reason, for_ms
    end
    room.circuit_until, room.circuit_ms, room.circuit_why = room.now + for_ms, for_ms, reason
    room.probe, room.changed = '', true
    call('DEL', room.calls)
  end

  local function count()
    if outcome == 'failed' then
      call('HINCRBY', room.calls, 'f ' .. bucket, 1)
      room.failing_until, room.changed = room.now + window_ms, true
    end
    local sums, calls = { a = 0, f = 0 }, call('HGETALL', room.calls)
    local recent, recent_ms, recently = 0, 0, math.floor(RECENT_MS / (window_ms / 30))
    for i = 1, #calls, 2 do
      local kind, at = string.match(calls[i], '(%a) (%d+)')
      at = tonumber(at)
      if at <= bucket - 30 then
        call('HDEL', room.calls, calls[i])
      else
        local many = tonumber(calls[i + 1]) % LATENCY_UNIT
        sums[kind] = sums[kind] + many
        if kind == 'a' and at >= bucket - recently and at < bucket then
          recent, recent_ms = recent + many, recent_ms + (tonumber(calls[i + 1]) - many) / LATENCY_UNIT
        end
      end
    end
    if counted == 1 and outcome == 'ok' then
      heed_latency(recent_ms / math.max(1, recent), recent)
    end
    if sums.a >= least_attempts and sums.f >= share * sums.a then
      open('failures', open_for_ms)
    end
  end

  if outcome == 'rate_limited' then
    if refused(record, room.used + 1, retry_after_ms) then
      room.cool_until, room.changed = math.max(room.cool_until, room.now + math.abs(retry_after_ms)), true
    end
  end
  local is_probe = room.probe == id
  if outcome == 'quota' then
    open('quota', quota_ms)
  elseif is_probe and outcome == 'failed' and learnt.probe_ms > 0 then
    -- It was its own turn's only loss: the next one may try as soon as its time has come.
    room.circuit_until, room.probe, room.changed = math.max(room.now, record[GRANTED] + learnt.probe_ms), '', true
  elseif is_probe and outcome == 'failed' then
    -- Twice as long as the last time; after a quota code the same again.
    local why, last_ms = room.circuit_why, room.circuit_ms
    open(why, why == 'quota' and last_ms or math.min(2 * last_ms, longest_ms))
  elseif is_probe and outcome ~= 'neutral' then
    event = 'closed'
    room.circuit_until, room.circuit_ms, room.circuit_why, room.probe, room.changed = 0, 0, '', '', true
  elseif counts then
    count()
  end
end

local record = record_of(id)
local mine = record and record[FENCE] == fence
if mine then
  call('ZREM', room.leases, id)
  call('HDEL', room.tickets, id)
  room.used = room.used - 1
  learn(record)
  if by_tokens and tokens >= 0 and forget_start(record) then
    record[TOKENS] = tokens
    count_start(record)
  end
end
pump()
return { event, why, outlook(mine and 1 or 0, open_ms) }
