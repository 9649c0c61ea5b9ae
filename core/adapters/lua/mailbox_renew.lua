-- Prolong the leader's lease, and note that it calls LINE.
--
-- KEYS  1: lead HASH {fence, until, by}, 2: generation (mailbox_order.lua), 3: done (mailbox_begin.lua)
-- ARGV  1: fence, 2: lease (ms), 3: retention (ms), 4: the note, a member of done, or ""
-- Returns 1, or 0 if the lease is lost: somebody else led since, or it was given up
--
-- Atomic, since between reading the fence and writing the lease another could become leader. A lease that
-- ran out and that nobody took is still the holder's: the fence, not the time, tells whose it is.
local lead, generation, done = unpack(KEYS)
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
if not leads(lead, generation, ARGV[1], now_us) then
  return 0
end
redis.call('HSET', lead, 'until', math.floor(now_us / 1000) + tonumber(ARGV[2]))
redis.call('PEXPIRE', lead, ARGV[3])
if ARGV[4] ~= '' then
  redis.call('ZADD', done, math.floor(now_us / 1000), ARGV[4])
  redis.call('PEXPIRE', done, ARGV[3])
end
return 1
