-- The end of every slots operation: what the provider allows, who is next, and what the caller must know.
-- Included after slots_state.lua (and slots_operator.lua).

-- Slots held by each clinic. Read once, then kept up to date.
function room.holders()
  if not room.held then
    local held = {}
    for _, id in ipairs(redis.call('ZRANGE', room.leases, 0, -1)) do
      local org = string.sub(id, 1, string.find(id, ' ', 1, true) - 1)
      held[org] = (held[org] or 0) + 1
    end
    room.held = held
  end
  return room.held
end

function room.cap_of(org)
  local caps = redis.call('HMGET', room.caps, 'set ' .. org, 'own ' .. org)
  return tonumber(caps[1] or caps[2] or room.org_limit)
end

-- Without rates none of this is there.
if room.requests_limit > 0 or room.tokens_limit > 0 then
  -- A grant's member of `starts`.
  local function start_of(record)
    return string.format('%.0f %d', record[FENCE], record[TOKENS])
  end

  function room.count_start(record)
    room.set('tokens', room.state.tokens + record[TOKENS])
    redis.call('ZADD', room.starts, record[GRANTED], start_of(record))
  end

  -- False if it was more than a minute ago.
  function room.forget_start(record)
    local known = redis.call('ZREM', room.starts, start_of(record)) == 1
    if known then
      room.set('tokens', room.state.tokens - record[TOKENS])
    end
    return known
  end

  function room.forget_old_starts()
    for _, start in ipairs(redis.call('ZRANGEBYSCORE', room.starts, '-inf', room.now - MINUTE_MS)) do
      redis.call('ZREM', room.starts, start)
      room.set('tokens', room.state.tokens - tonumber(string.match(start, '%d+$')))
    end
  end

  -- Until when the rates forbid a grant of `tokens`: nil, or the time (ms), the reason, and that it is certain.
  function room.rate_gate(tokens)
    room.forget_old_starts()
    local count = redis.call('ZCARD', room.starts)
    local full = room.requests_limit > 0 and count >= room.requests_limit
    -- What alone exceeds the limit runs when nothing else did in the last minute.
    local spent = room.tokens_limit > 0 and count > 0 and room.state.tokens + tokens > room.tokens_limit
    if full or spent then
      return tonumber(redis.call('ZRANGE', room.starts, 0, 0, 'WITHSCORES')[2]) + MINUTE_MS, 'rate', true
    end
  end
end

-- Until when the provider's state forbids a grant of `tokens`: nil, or the time (ms), the reason, and whether
-- that time is certain (a probe may end any moment).
function room.gate(tokens)
  local state = room.state
  if state.circuit_until then
    if room.now < state.circuit_until then
      return state.circuit_until, 'circuit', true
    end
    local probe_until = state.probe and redis.call('ZSCORE', room.leases, state.probe)
    if probe_until then
      return tonumber(probe_until), 'circuit', false
    end
  end
  if state.cool_until and room.now < state.cool_until then
    return state.cool_until, 'cooldown', true
  end
  if room.rate_gate then
    return room.rate_gate(tokens)
  end
end

-- Turn a waiter's record into a claim: it becomes a lease with the first renewal.
function room.lease(id, org, record)
  record[FENCE], record[GRANTED] = room.next_tick(), room.now
  room.keep_lease(id, room.now + room.claim_ms)
  redis.call('HSET', room.tickets, id, cmsgpack.pack(record))
  room.used = room.used + 1
  if room.held then
    room.held[org] = (room.held[org] or 0) + 1
  end
  if room.state.circuit_until then
    room.set('probe', id)
  end
  if room.rate_gate then
    room.count_start(record)
  end
end

-- The waiting clinic that holds the fewest slots and is below its cap; of several, the one not served for
-- longest. Only `used` clinics can hold any, so the first used + 1 contain one that holds none if there is
-- one at all: the number of waiting clinics does not matter.
function room.next_org()
  local waiting = redis.call('ZRANGE', room.orgs, 0, room.used)
  if #waiting == 0 then
    room.nobody = true
    return nil
  end
  local held, best, fewest = room.holders(), nil, nil
  for _, org in ipairs(waiting) do
    local count = held[org] or 0
    if count == 0 then
      return org
    end
    if (not fewest or count < fewest) and count < room.cap_of(org) then
      best, fewest = org, count
    end
  end
  return best
end

-- Let waiters run while there are free slots. A grant is announced on the channel of the waiter's process:
-- nonce, fence, now (ms), slots used, waiters, limit.
function room.pump()
  while room.used < room.limit do
    local org = room.next_org()
    if not org then
      return
    end
    local first = room.heads(org, 2)
    local id = room.id_of(org, first[1])
    local record = room.record_of(id)
    room.shut_until, room.shut_by, room.shut_certain = room.gate(record[TOKENS])
    if room.shut_until then
      return
    end
    redis.call('ZREM', room.queue, first[1])
    redis.call('ZREM', room.waits, first[1])
    room.lease(id, org, record)
    if first[2] then
      redis.call('ZADD', room.orgs, room.next_tick(), org)
    else
      redis.call('ZREM', room.orgs, org)
    end
    local waiting = redis.call('ZCARD', room.waits)
    redis.call('PUBLISH', record[CHANNEL], string.format('%s %.0f %.0f %d %d %d', record[NONCE], record[FENCE],
      room.now, room.used, waiting, room.limit))
  end
end

-- Save what the operation changed, and say what a process with waiters must know: {ms until time alone may let
-- somebody run (-1: nobody waits), ms for which the provider's state certainly forbids any grant, the reason,
-- slots used, waiters, limit, now (ms)}.
function room.outlook()
  local now, waiting, again_ms = room.now, room.nobody and 0 or redis.call('ZCARD', room.waits), -1
  local shut_until, shut_by, certain = room.shut_until, room.shut_by, room.shut_certain
  if not shut_until then
    shut_until, shut_by, certain = room.gate(0)
  end
  if waiting > 0 then
    again_ms = math.max(1, math.min(shut_until or NEVER, room.state.lease_due, now + room.lease_ms) - now)
  end
  if room.changed then
    redis.call('SET', KEYS[6], cmsgpack.pack(room.state))
  end
  local shut_ms, reason = certain and shut_until - now or 0, certain and shut_by or ''
  return { again_ms, shut_ms, reason, room.used, waiting, room.limit, now }
end
