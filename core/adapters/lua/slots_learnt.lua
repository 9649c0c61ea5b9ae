-- How many calls at once the provider really takes, found below the ceiling (the configured limit, or an
-- operator's). Included after slots_room.lua (and slots_operator.lua).
--
-- A refusal says at how many calls it came: one less is the limit from then on, and that number is remembered.
-- Below it the limit rises as soon as calls at the new height were not refused; at it, every 10 s only. If that
-- holds, the memory was wrong, and the limit rises by 2, 4 … until it fails again or the ceiling is reached.
-- Latency lowers it, too, where it has doubled with all slots in use; if that does not make calls faster, the
-- provider is slow by itself, and the limit is what it was.
local TRY_MS = 10000 -- between two tries of as many calls as were refused
local PROVEN = 3 -- grants at a new height, none of them refused …
local SOONEST_MS, LATEST_MS = 500, 5000 -- … within twice the time that a refusal took, in these bounds
local AGAIN_MS = 1000 -- refusals so soon one after the other are about something else than calls at once
local SHORT_MS = 2000 -- a longer Retry-After than this is heeded whatever the refusal was about
local SLOWER, LOWERED, FASTER = 2, 0.8, 0.9 -- latency: doubled; by how much the limit falls; has that helped?
local CHECK_MS, CHECK_LATEST_MS = 6000, 20000 -- how soon that can be seen
local RECENT_MS = 5000 -- what an average is of
local LEAST_CALLS = 10 -- for an average that says anything
local BY_REFUSAL, BY_LATENCY = 1, 2

-- The fields of the state's end.
--   limit                   0: none, the ceiling holds
--   good                    calls at once that were taken, as far as was tried since the last refusal
--   bad, try_at             calls at once that were refused (0: none), and when as many are tried again (ms)
--   raised_at, above, step  of a try that runs: since when (ms; 0: none runs), grants above `good` since then;
--                           by how much the limit rises
--   refusal_ms              how long after its grant a call was refused
--   why                     BY_REFUSAL, BY_LATENCY
--   usual_ms                how long a call usually holds its slot
--   slow_ms, before, check_at   lowered for latency: which (0: it is not), from what limit, when it is looked at again
--   adaptive, probe_ms      as instances last asked with, for operators' commands
local LEARNT_FORMAT = '<' .. string.rep('d', 15)
local learnt = {
  limit = 0, good = 0, bad = 0, try_at = 0, raised_at = 0, above = 0, step = 1, refusal_ms = 0, why = 0,
  usual_ms = 0, slow_ms = 0, before = 0, check_at = 0, adaptive = -1, probe_ms = 0,
}
if packed_state and learnt_from < #packed_state then
  learnt.limit, learnt.good, learnt.bad, learnt.try_at, learnt.raised_at, learnt.above, learnt.step,
    learnt.refusal_ms, learnt.why, learnt.usual_ms, learnt.slow_ms, learnt.before, learnt.check_at,
    learnt.adaptive, learnt.probe_ms = struct.unpack(LEARNT_FORMAT, packed_state, learnt_from)
end
if not room.by_operator then
  local asked_probe_ms, last_seen_limit = struct.unpack('<dd', ARGV[2], 17)
  if learnt.adaptive ~= adaptive or learnt.probe_ms ~= asked_probe_ms then
    learnt.adaptive, learnt.probe_ms, room.changed = adaptive, asked_probe_ms, true
  end
  if not packed_state and adaptive > 0 and last_seen_limit > 0 and last_seen_limit < room.ceiling then
    -- Redis has lost its data: what was learnt is what instances remember.
    learnt.limit, learnt.bad, learnt.why = last_seen_limit, last_seen_limit + 1, BY_REFUSAL
    learnt.try_at = room.now + TRY_MS
  end
end

local function apply_learnt()
  local own = learnt.adaptive > 0 and learnt.limit or 0
  room.limit = own > 0 and own < room.ceiling and own or room.ceiling
end
apply_learnt()

local function pack_learnt()
  return struct.pack(LEARNT_FORMAT, learnt.limit, learnt.good, learnt.bad, learnt.try_at, learnt.raised_at,
    learnt.above, learnt.step, learnt.refusal_ms, learnt.why, learnt.usual_ms, learnt.slow_ms, learnt.before,
    learnt.check_at, learnt.adaptive, learnt.probe_ms)
end

-- The ceiling holds again, until the provider says otherwise.
local function forget_learnt()
  learnt.limit, learnt.good, learnt.bad, learnt.try_at, learnt.raised_at = 0, 0, 0, 0, 0
  learnt.above, learnt.step, learnt.slow_ms, room.changed = 0, 1, 0, true
  apply_learnt()
end

-- All slots are in use and somebody waits: may there be more of them?
local function may_grow()
  if learnt.limit == 0 or learnt.adaptive <= 0 then
    return false
  end
  if learnt.raised_at > 0 then
    local settled_ms = math.min(LATEST_MS, math.max(SOONEST_MS, 2 * learnt.refusal_ms))
    if learnt.above < PROVEN or room.now < learnt.raised_at + settled_ms then
      return false
    end
    if room.limit >= room.ceiling then
      forget_learnt()
      return false
    end
    if learnt.why == BY_LATENCY then -- which takes longer to be seen
      learnt.bad, learnt.try_at = room.limit + 1, room.now + TRY_MS
    elseif learnt.bad == 0 or room.limit >= learnt.bad then
      learnt.bad, learnt.step = 0, 2 * learnt.step
    end
    learnt.good, learnt.raised_at, room.changed = room.limit, 0, true
  end
  return room.limit < room.ceiling
    and (learnt.bad == 0 or room.limit + 1 < learnt.bad or room.now >= learnt.try_at)
end

local function grow()
  learnt.good, learnt.raised_at, learnt.above, room.changed = room.limit, room.now, 0, true
  learnt.limit = math.min(room.ceiling, room.limit + (learnt.bad == 0 and learnt.step or 1))
  apply_learnt()
end

local function lower_to(limit, refused_at, why)
  learnt.limit, learnt.bad, learnt.why = math.max(1, limit), refused_at, why
  learnt.good, learnt.try_at = math.min(learnt.good, learnt.limit), room.now + TRY_MS
  learnt.raised_at, learnt.step, room.changed = 0, 1, true
  apply_learnt()
end

-- A call was refused while so many were on their way. True if nobody may call for a while: calls at once were not
-- what it was about, as far as can be told. `asked_ms`: Retry-After, -1 if there was none.
local function refused(record, at_once, asked_ms)
  if learnt.adaptive <= 0 then
    return true
  end
  at_once = math.max(at_once, math.min(record[STARTED_AS], room.ceiling))
  local tried = learnt.raised_at > 0 and at_once > learnt.good
  local soon_again = room.now < learnt.try_at - TRY_MS + AGAIN_MS
  local known_good = at_once <= learnt.good
  if asked_ms >= 0 and not tried and room.now < room.cool_until then
    return true -- with others, by the refusal that all wait for already
  end
  learnt.refusal_ms = room.now - record[GRANTED]
  -- Others of the same burst may have been refused with fewer on their way.
  local lowest = tried and at_once or math.min(learnt.bad > 0 and learnt.bad or at_once, at_once)
  lower_to(tried and learnt.good or math.min(room.limit, at_once - 1), lowest, BY_REFUSAL)
  return at_once == 1 or (known_good and soon_again) or asked_ms > SHORT_MS or (asked_ms >= 0 and not tried)
end

-- How long calls took on average in the last seconds, looked at once a second at most.
local function heed_latency(recent_ms, calls)
  if learnt.adaptive <= 0 or calls < LEAST_CALLS then
    return
  end
  local usual_ms = learnt.usual_ms
  if learnt.slow_ms > 0 and room.now < learnt.check_at then
    return
  end
  if usual_ms == 0 then
    learnt.usual_ms = recent_ms
  elseif learnt.slow_ms > 0 and recent_ms > FASTER * learnt.slow_ms then
    learnt.usual_ms, learnt.limit, learnt.bad, learnt.slow_ms = recent_ms, learnt.before, 0, 0
    apply_learnt()
  elseif recent_ms > SLOWER * usual_ms and room.limit > 1 and room.used + 1 >= room.limit then
    learnt.slow_ms, learnt.before = recent_ms, learnt.limit
    local limit = math.max(1, math.floor(LOWERED * room.limit))
    lower_to(limit, limit + 1, BY_LATENCY)
    learnt.check_at = room.now + math.min(CHECK_LATEST_MS, math.max(CHECK_MS, 2 * recent_ms))
    learnt.try_at = learnt.check_at + TRY_MS
  else
    learnt.slow_ms = 0
    learnt.usual_ms = usual_ms + (recent_ms - usual_ms) * (recent_ms < usual_ms and 0.1 or 0.02)
  end
  room.changed = true
end
