-- Prolong the leader's lease.
--
-- KEYS  1: lead HASH {fence, until, by}
-- ARGV  1: fence, 2: lease (ms), 3: retention (ms)
-- Returns 1, or 0 if the lease is lost: somebody else led since, it was given up, or Redis lost it
--
-- Atomic, since between reading the fence and writing the lease another could become leader. A lease that
-- ran out and that nobody took is still the holder's: the fence, not the time, tells whose it is.
local lead = KEYS[1]
local last = redis.call('HMGET', lead, 'fence', 'until')
if last[1] ~= ARGV[1] or last[2] == '0' then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', lead, 'until', now + tonumber(ARGV[2]))
redis.call('PEXPIRE', lead, ARGV[3])
return 1
