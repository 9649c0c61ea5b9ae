-- The end of every slots operation: who is next, and what the caller must know. Included after slots_rates.lua.
local MAX_PASSED, MAX_OF_ONE = 20, 20 -- looked at when tokens lack, so that an operation stays short

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

-- Turn a waiter's record into a claim: it becomes a lease with the first renewal.
local function lease(id, org, record)
  record[FENCE], record[GRANTED], record[STARTED_AS] = next_tick(), room.now, room.used + 1
  keep_lease(id, room.now + room.claim_ms)
  keep_record(id, record)
  room.used = room.used + 1
  if room.held then
    room.held[org] = (room.held[org] or 0) + 1
  end
  if room.circuit_until > 0 then
    room.probe, room.changed = id, true
    if learnt.probe_ms > 0 then
      room.circuit_until = room.now + learnt.probe_ms -- for the next one, whatever becomes of this
    end
  end
  if learnt.raised_at > 0 and room.used > learnt.good then
    learnt.above, room.changed = learnt.above + 1, true
  end
  if rated then
    count_start(record)
  end
  if by_tokens then
    stop_saving(record)
  end
end

-- The waiting clinic that holds the fewest slots and is below its cap; of several, the one not served for
-- longest. Only `used` clinics can hold any, so the first used + 1 contain one that holds none if there is
-- one at all: the number of waiting clinics does not matter. Not the `count` clinics of `passed`.
local function next_org(passed, count)
  local waiting = call('ZRANGE', room.orgs, 0, room.used + count)
  if #waiting == 0 then
    room.nobody_waits = true
    return nil
  end
  local held, best, fewest = holders(), nil, nil
  for _, org in ipairs(waiting) do
    local holds = not passed[org] and (held[org] or 0)
    if holds == 0 then
      return org
    end
    if holds and (not fewest or holds < fewest) and holds < cap_of(org) then
      best, fewest = org, holds
    end
  end
  return best
end

-- The first of a clinic's waiters that fits: its member of the queue and its record.
local function first_fitting(org, waiters)
  for _, member in ipairs(waiters) do
    local record = record_of(id_of(org, member))
    local lacks = by_tokens and lacking(record) or 0
    if lacks <= 0 then
      return member, record
    end
    save_for(record)
    room.lacks = math.min(room.lacks, lacks)
  end
end

-- Let waiters run while there are free slots. A grant is announced on the channel of the waiter's process, but
-- for the one who asks at the moment: nonce, fence, now (ms), slots used, waiters, limit. Clinics whose waiters
-- lack tokens are passed.
local function pump()
  local passed, count = {}, 0
  while count < MAX_PASSED do
    if room.used >= room.limit and not may_grow() then
      return
    end
    local org = next_org(passed, count)
    if not org then
      return
    end
    room.shut_until, room.shut_by, room.shut_certain = gate()
    if room.shut_until then
      return
    end
    local waiters = heads(org, by_tokens and MAX_OF_ONE or 2)
    local member, record = first_fitting(org, waiters)
    if member then
      if room.used >= room.limit then
        grow()
      end
      call('ZREM', room.queue, member)
      call('ZREM', room.waits, member)
      lease(id_of(org, member), org, record)
      if waiters[2] then
        call('ZADD', room.orgs, next_tick(), org)
      else
        call('ZREM', room.orgs, org)
      end
      if record[NONCE] ~= room.asker then
        call('PUBLISH', record[CHANNEL], string.format('%s %.0f %.0f %d %d %d', record[NONCE], record[FENCE],
          room.now, room.used, call('ZCARD', room.waits), room.limit))
      end
    else
      passed[org], count = true, count + 1
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
    room.shut_until, room.shut_by, room.shut_certain = gate()
  end
  if waiting > 0 then
    local fits_at = room.lacks < NEVER and free_at(room.lacks) or NEVER
    local again = math.min(room.shut_until or fits_at, room.lease_due, room.now + room.lease_ms)
    again_ms = math.max(1, again - room.now)
  end
  if room.changed then
    call('SET', room.state, struct.pack(STATE_FORMAT, room.lease_due, room.wait_due, room.last_tick,
      room.set_limit, room.capped, room.saving_until, room.cool_until, room.failing_until, room.circuit_until,
      room.circuit_ms, room.generation, room.lost_until, room.seen, room.circuit_why, room.probe) .. pack_learnt())
  end
  local shut_ms, reason = 0, ''
  if room.shut_certain then
    shut_ms, reason = room.shut_until - room.now, room.shut_by
  end
  local format = '<ddddddd' .. string.rep('d', select('#', ...))
  return reason, struct.pack(format, again_ms, shut_ms, room.used, waiting, room.limit, room.now, room.generation, ...)
end
