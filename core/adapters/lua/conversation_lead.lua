-- Lead a conversation without an event of one's own.
--
-- KEYS  1: lead HASH {fence, until, by} (see mailbox_begin.lua), 2: generation (mailbox_order.lua)
-- ARGV  1: this call's own id, 2: lease (ms), 3: retention (ms)
-- Returns {"held", now, rest of the lease, or of the wait after a loss of Redis' data (ms)}
--       | {"lead", now, fence}
--
-- Atomic, since two that find the lease free must not both lead. TIME is the only clock.
local lead, generation = unpack(KEYS)
local by = ARGV[1]
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)
generation_of(generation, now_us, '') -- else this fence would seem older than the data, once it is given up
local last = redis.call('HMGET', lead, 'fence', 'until', 'by')
local fence, ends = tonumber(last[1] or 0), tonumber(last[2] or 0)
local rest = math.max(ends - now, recovery_ms(generation, now, tonumber(ARGV[2])))
if rest > 0 and last[3] ~= by then
  return { 'held', now, rest }
end
if ends <= now then
  fence = math.max(now_us, fence + 1)
end
redis.call('HSET', lead, 'fence', fence, 'until', now + tonumber(ARGV[2]), 'by', by)
redis.call('PEXPIRE', lead, ARGV[3])
return { 'lead', now, fence }
