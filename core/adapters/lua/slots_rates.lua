-- The provider's rates: what was granted in the last minute, who must wait for tokens, and for whom they are
-- saved. Included after slots_learnt.lua.
--
-- A request whose tokens are not there holds up nobody: those behind it that fit run first. So that it is not
-- passed for ever, tokens are saved for one such request at a time, the first in turn, once it has lacked them for
-- a while: half of the rate, until there are enough. Whatever others ask for, they are there after 2 minutes × its
-- size ÷ the rate and another minute at most. They stay saved while it is put back, for it comes again with the
-- same place.
local SAVE_AFTER_MS = 5000 -- most of what lacks comes back when calls end that were estimated too high
local AWAY_MS = 15000 -- beyond the time that it was told: how late a task may be
local MAX_LOOKED_AT, AT_ONCE = 1000, 50

local rated = room.requests_limit + room.tokens_limit > 0
local by_tokens = room.tokens_limit > 0
local count_start, forget_start, lacking, free_at, save_for, stop_saving -- the last four by tokens alone

if rated then
  -- A grant's member of `starts`.
  local function start_of(record)
    return string.format('%.0f %d', record[FENCE], record[TOKENS])
  end

  local function tokens_of(start)
    return tonumber(string.match(start, '%d+$'))
  end

  local function sum_of(starts)
    local sum = 0
    for _, start in ipairs(starts) do
      sum = sum + tokens_of(start)
    end
    return sum
  end

  local function spend(tokens)
    room.spent = room.spent + tokens
    call('HSET', room.tokens, 'spent', room.spent)
  end

  function count_start(record)
    call('ZADD', room.starts, record[GRANTED], start_of(record))
    if by_tokens then
      spend(record[TOKENS])
    end
  end

  -- False if it was more than a minute ago.
  function forget_start(record)
    local known = call('ZREM', room.starts, start_of(record)) == 1
    if known and by_tokens then
      spend(-record[TOKENS])
    end
    return known
  end

  local long_ago = room.now - MINUTE_MS
  local old = by_tokens and call('ZRANGEBYSCORE', room.starts, '-inf', long_ago)
  call('ZREMRANGEBYSCORE', room.starts, '-inf', long_ago)

  if by_tokens then
    room.spent = tonumber(call('HGET', room.tokens, 'spent') or -1)
    if room.spent < 0 or call('EXISTS', room.starts) == 0 then
      room.spent = 0
      spend(sum_of(call('ZRANGE', room.starts, 0, -1)))
    elseif #old > 0 then
      spend(-sum_of(old))
    end
    if room.now < room.saving_until then
      local place, size, since = unpack(call('HMGET', room.tokens, 'place', 'size', 'since'))
      room.saving = { place = tonumber(place), size = tonumber(size), since = tonumber(since) }
    end

    -- How many tokens are missing for a request; not above 0 if it fits.
    function lacking(record)
      local saving, kept = room.saving, 0
      if saving and saving.place ~= record[PLACE] then
        local saved = (room.now - saving.since - SAVE_AFTER_MS) * room.tokens_limit / (2 * MINUTE_MS)
        kept = math.max(0, math.min(saving.size, saved))
      end
      return room.spent + kept + record[TOKENS] - room.tokens_limit
    end

    -- When so many tokens will have been spent a minute ago (ms), and there are that many more, if nobody
    -- else gets them.
    function free_at(tokens)
      local first, freed, at = 0, 0, room.saving_until
      repeat
        local starts = call('ZRANGE', room.starts, first, first + AT_ONCE - 1, 'WITHSCORES')
        for i = 1, #starts, 2 do
          freed, at = freed + tokens_of(starts[i]), tonumber(starts[i + 1]) + MINUTE_MS
          if freed >= tokens then
            return at
          end
        end
        first = first + AT_ONCE
      until #starts == 0 or first >= MAX_LOOKED_AT
      return math.max(at, room.now + 1)
    end

    -- Save tokens for a waiter that lacks them, unless it is another's turn.
    function save_for(record)
      if record[TOKENS] > room.tokens_limit then
        return
      elseif not room.saving then
        room.saving = { place = record[PLACE], size = record[TOKENS], since = room.now }
        call('HSET', room.tokens, 'place', string.format('%.0f', record[PLACE]), 'size', record[TOKENS],
          'since', room.now)
        room.saving_until = 0
      end
      local until_ms = record[DEADLINE] + AWAY_MS
      if room.saving.place == record[PLACE] and room.saving_until < until_ms then
        room.saving_until, room.changed = until_ms, true
      end
    end

    function stop_saving(record)
      if room.saving and room.saving.place == record[PLACE] then
        room.saving, room.saving_until, room.changed = false, 0, true
      end
    end
  end
end

-- Until when the provider's state forbids any grant: nil, or the time (ms), the reason, and whether that time is
-- certain (a probe may end any moment).
local function gate()
  if room.circuit_until > 0 then
    if room.now < room.circuit_until then
      return room.circuit_until, 'circuit', true
    end
    -- Where there is another provider to go to, the next probe waits for no answer of this one.
    local probe_until = learnt.probe_ms == 0 and room.probe ~= '' and call('ZSCORE', room.leases, room.probe)
    if probe_until then
      return tonumber(probe_until), 'circuit', false
    end
  end
  if room.now < room.cool_until then
    return room.cool_until, 'cooldown', true
  end
  if room.requests_limit > 0 then
    local over = call('ZCARD', room.starts) - room.requests_limit
    if over >= 0 then
      return tonumber(call('ZRANGE', room.starts, over, over, 'WITHSCORES')[2]) + MINUTE_MS, 'rate', true
    end
  end
end

-- Let the outlook say why this request, which stops waiting, can't run, and until when, if it is for its tokens.
-- What is saved for it stays for when it comes again.
local function explain(record)
  local lacks = lacking(record)
  if lacks > 0 and not gate() then
    room.shut_until, room.shut_by, room.shut_certain = free_at(lacks), 'rate', true
    if record[TOKENS] > room.tokens_limit then
      room.shut_by = 'too_large'
    end
  end
  if room.saving and room.saving.place == record[PLACE] then
    room.saving_until, room.changed = (room.shut_until or room.now) + AWAY_MS, true
  end
end
