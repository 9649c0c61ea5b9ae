-- The end of every slots operation: what the provider allows, who is next, and what the caller must know.
-- Included after slots_room.lua (and slots_operator.lua).

-- Slots held by each clinic. Read once, then kept up to date.
local function holders()
  if not room.held then
    room.held = {}
    for _, id in ipairs(call('ZRANGE', room.leases, 0, -1)) do
      local org = string.match(id, '^%S+')
      room.held[org] = (room.held[org] or 0) + 1
    end
  end
  return room.held
end

local function cap_of(org)
  local caps = call('HMGET', room.caps, 'set ' .. org, 'own ' .. org)
  return tonumber(caps[1] or caps[2] or room.org_limit)
end

local count_start, forget_start, forget_old_starts, rate_gate -- without rates none of them is there
if room.requests_limit > 0 or room.tokens_limit > 0 then
  -- A grant's member of `starts`.
  local function start_of(record)
    return string.format('%.0f %d', record[FENCE], record[TOKENS])
  end

  function count_start(record)
    room.minute_tokens, room.changed = room.minute_tokens + record[TOKENS], true
    call('ZADD', room.starts, record[GRANTED], start_of(record))
  end

  -- False if it was more than a minute ago.
  function forget_start(record)
    local known = call('ZREM', room.starts, start_of(record)) == 1
    if known then
      room.minute_tokens, room.changed = room.minute_tokens - record[TOKENS], true
    end
    return known
  end

  function forget_old_starts()
    for _, start in ipairs(call('ZRANGEBYSCORE', room.starts, '-inf', room.now - MINUTE_MS)) do
      call('ZREM', room.starts, start)
      room.minute_tokens, room.changed = room.minute_tokens - tonumber(string.match(start, '%d+$')), true
    end
  end

  -- Until when the rates forbid a grant of `tokens`: nil, or the time (ms), the reason, and that it is certain.
  function rate_gate(tokens)
    forget_old_starts()
    local count = call('ZCARD', room.starts)
    local full = room.requests_limit > 0 and count >= room.requests_limit
    -- What alone exceeds the limit runs when nothing else did in the last minute.
    local spent = room.tokens_limit > 0 and count > 0 and room.minute_tokens + tokens > room.tokens_limit
    if full or spent then
      return tonumber(call('ZRANGE', room.starts, 0, 0, 'WITHSCORES')[2]) + MINUTE_MS, 'rate', true
    end
  end
end

-- Until when the provider's state forbids a grant of `tokens`: nil, or the time (ms), the reason, and whether
-- that time is certain (a probe may end any moment).
local function gate(tokens)
  if room.circuit_until > 0 then
    if room.now < room.circuit_until then
      return room.circuit_until, 'circuit', true
    end
    local probe_until = room.probe ~= '' and call('ZSCORE', room.leases, room.probe)
    if probe_until then
      return tonumber(probe_until), 'circuit', false
    end
  end
  if room.now < room.cool_until then
    return room.cool_until, 'cooldown', true
  end
  if rate_gate then
    return rate_gate(tokens)
  end
end

-- Turn a waiter's record into a claim: it becomes a lease with the first renewal.
local function lease(id, org, record)
  record[FENCE], record[GRANTED] = next_tick(), room.now
  keep_lease(id, room.now + room.claim_ms)
  keep_record(id, record)
  room.used = room.used + 1
  if room.held then
    room.held[org] = (room.held[org] or 0) + 1
  end
  if room.circuit_until > 0 then
    room.probe, room.changed = id, true
  end
  if rate_gate then
    count_start(record)
  end
end

-- The waiting clinic that holds the fewest slots and is below its cap; of several, the one not served for
-- longest. Only `used` clinics can hold any, so the first used + 1 contain one that holds none if there is
-- one at all: the number of waiting clinics does not matter.
local function next_org()
  local waiting = call('ZRANGE', room.orgs, 0, room.used)
  if #waiting == 0 then
    room.nobody_waits = true
    return nil
  end
  local held, best, fewest = holders(), nil, nil
  for _, org in ipairs(waiting) do
    local count = held[org] or 0
    if count == 0 then
      return org
    end
    if (not fewest or count < fewest) and count < cap_of(org) then
      best, fewest = org, count
    end
  end
  return best
end

-- Let waiters run while there are free slots. A grant is announced on the channel of the waiter's process, but
-- for the one who asks at the moment: nonce, fence, now (ms), slots used, waiters, limit.
local function pump()
  while room.used < room.limit do
    local org = next_org()
    if not org then
      return
    end
    local first = heads(org, 2)
    local id = id_of(org, first[1])
    local record = record_of(id)
    room.shut_until, room.shut_by, room.shut_certain = gate(record[TOKENS])
    if room.shut_until then
      return
    end
    call('ZREM', room.queue, first[1])
    call('ZREM', room.waits, first[1])
    lease(id, org, record)
    if first[2] then
      call('ZADD', room.orgs, next_tick(), org)
    else
      call('ZREM', room.orgs, org)
    end
    if record[NONCE] ~= room.asker then
      call('PUBLISH', record[CHANNEL], string.format('%s %.0f %.0f %d %d %d', record[NONCE], record[FENCE],
        room.now, room.used, call('ZCARD', room.waits), room.limit))
    end
  end
end

-- Save what the operation changed, and say what a process with waiters must know. The end of every reply: the
-- reason why the provider's state forbids any grant, and packed numbers: ms until time alone may let somebody run
-- (-1: nobody waits), ms for which no grant is certain, slots used, waiters, limit, now (ms), generation, then
-- the operation's own.
local function outlook(...)
  local waiting, again_ms = room.nobody_waits and 0 or call('ZCARD', room.waits), -1
  if not room.shut_until then
    room.shut_until, room.shut_by, room.shut_certain = gate(0)
  end
  if waiting > 0 then
    local again = math.min(room.shut_until or NEVER, room.lease_due, room.now + room.lease_ms)
    again_ms = math.max(1, again - room.now)
  end
  if room.changed then
    call('SET', room.state, struct.pack(STATE_FORMAT, room.lease_due, room.wait_due, room.last_tick,
      room.set_limit, room.capped, room.minute_tokens, room.cool_until, room.failing_until, room.circuit_until,
      room.circuit_ms, room.generation, room.lost_until, room.seen, room.circuit_why, room.probe))
  end
  local shut_ms, reason = 0, ''
  if room.shut_certain then
    shut_ms, reason = room.shut_until - room.now, room.shut_by
  end
  local format = '<ddddddd' .. string.rep('d', select('#', ...))
  return reason, struct.pack(format, again_ms, shut_ms, room.used, waiting, room.limit, room.now, room.generation, ...)
end
