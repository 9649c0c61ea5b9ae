-- The beginning of every slots operation: keys, options, state, clock. Redis runs a script alone, so an
-- operation sees and leaves a state in which nobody who could run is waiting.
--
-- KEYS, the same for every operation
--   1 leases   ZSET  "org ticket" -> expiry (ms). The only truth about who holds a slot: counts are derived
--                    from it, so none can leak.
--   2 queue    ZSET  "org place ticket", all scores 0: every clinic's FIFO in one lexical order
--   3 waits    ZSET  member of queue -> when it counts as dead (liveness mark, at most its deadline; ms)
--   4 orgs     ZSET  clinic that has waiters -> tick of its last grant or its activation
--   5 tickets  HASH  "org ticket" -> packed record (below), of waiters and of leases
--   6 state    packed fields (below)
--   7 caps     HASH  "own ORG" -> cap that the clinic last asked with, "set ORG" -> an operator's, which wins
--   8 calls    HASH  "a BUCKET" -> attempts, and how long those took that went well (ms), in units of
--                    LATENCY_UNIT; "f BUCKET" -> failures: what the circuit counts
--   9 starts   ZSET  "fence tokens" -> ms: grants of the last minute, kept while there is a rate; older ones
--                    are forgotten within a second or when they would be in somebody's way
--  10 tokens   HASH  spent -> tokens of `starts`; place, size, since (ms) of the request for which tokens are
--                    saved (slots_rates.lua)
-- ARGV, the same for every operation
--   1 packed numbers: limit, a clinic's cap, lease (ms), claim (ms), requests and tokens a minute (0: no limit)
--   2 packed numbers: the generation that the caller knows (0: none), 1 if the limit adapts itself (0: not), how
--     long an open circuit waits for its next probe (ms; 0: ever longer, since there is no other provider), the
--     limit that the caller has last seen (0: none), then the operation's own
--
-- While this runs, everybody else waits, so it is written for speed: numbers come packed (an argument costs as
-- much as a small command), and what acquire and release need when nobody waits is plain code before the first
-- function is defined (slots_acquire_free.lua, slots_release_free.lua), since a script defines its functions
-- anew at each call. `python -m tests.bench --only slots` shows what it costs.
local call = redis.call
local LEASES, QUEUE, WAITS, ORGS, TICKETS, STATE, CAPS, CALLS, STARTS, TOKEN_BOOK = unpack(KEYS)
local OPTIONS, LATENCY_UNIT = '<dddddd', 1048576
local configured_limit, org_limit, lease_ms, claim_ms, requests_limit, tokens_limit =
  struct.unpack(OPTIONS, ARGV[1])

-- The state's fields; 0 or '' is none.
--   lease_due, wait_due   no lease and no waiter expires before (ms)
--   last_tick             see next_tick
--   set_limit, capped     an operator's limit of all together; 1 if `caps` may hold anything
--   saving_until          tokens may be saved for somebody until then (ms)
--   cool_until            nobody is granted a slot before (ms)
--   failing_until         the circuit looks at its calls until then (ms)
--   circuit_until, circuit_ms, circuit_why, probe
--                         while it is not closed: until when and for how long it is open (ms), the reason, and
--                         the id of the one lease that tries
--   generation            when this state was begun (µs): another one than callers know means that Redis has lost
--                         its data, and with it who holds a slot
--   lost_until            after such a loss: until when those who held a slot are taken in again (ms)
--   seen                  ARGV 1 that instances last asked with, for operators' commands
-- and behind them what was learnt of the provider's own limit (slots_learnt.lua), which a state that an older
-- version has written lacks.
local STATE_FORMAT = '<ddddddddddddc48ss'
local lease_due, wait_due, last_tick, set_limit, capped, saving_until, cool_until = 0, 0, 0, 0, 0, 0, 0
local failing_until, circuit_until, circuit_ms, generation, lost_until = 0, 0, 0, 0, 0
local seen, circuit_why, probe, learnt_from, learnt_limit = ARGV[1], '', '', 1, 0
local packed_state = call('GET', STATE)
if packed_state then
  lease_due, wait_due, last_tick, set_limit, capped, saving_until, cool_until, failing_until, circuit_until,
    circuit_ms, generation, lost_until, seen, circuit_why, probe, learnt_from =
    struct.unpack(STATE_FORMAT, packed_state)
  if learnt_from < #packed_state then
    learnt_limit = struct.unpack('<d', packed_state, learnt_from)
  end
end

local time = call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = (now_us - now_us % 1000) / 1000
local known_generation, adaptive = struct.unpack('<dd', ARGV[2])
local ceiling = set_limit > 0 and set_limit or configured_limit
local limit = adaptive > 0 and learnt_limit > 0 and learnt_limit < ceiling and learnt_limit or ceiling

-- A ticket's record: fence (0: waits), place, since, deadline (ms; of a lease instead: slots used with its grant),
-- tokens, granted (ms), nonce, wake channel.
local RECORD_FORMAT = '<ddddddss'

-- Nobody waits, nothing has expired, the provider is well, and the state need not be saved: an operation then
-- concerns nobody but its caller.
local quiet = known_generation == generation
  and now < lease_due and now < wait_due and last_tick < now_us and now_us < last_tick + 1000000
  and now >= cool_until and circuit_until == 0 and now >= saving_until
  and call('EXISTS', ORGS) == 0
