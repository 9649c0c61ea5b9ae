-- Lead a conversation without an event of one's own.
--
-- KEYS  1: lead HASH {fence, until, by} (see mailbox_begin.lua)
-- ARGV  1: this call's own id, 2: lease (ms), 3: retention (ms)
-- Returns {"held", now, rest of the lease (ms)} | {"lead", now, fence}
--
-- Atomic, since two that find the lease free must not both lead. TIME is the only clock.
local lead, by = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)
local last = redis.call('HMGET', lead, 'fence', 'until', 'by')
local fence, ends = tonumber(last[1] or 0), tonumber(last[2] or 0)
if ends > now and last[3] ~= by then
  return { 'held', now, ends - now }
end
if ends <= now then
  fence = math.max(now_us, fence + 1)
end
redis.call('HSET', lead, 'fence', fence, 'until', now + tonumber(ARGV[2]), 'by', by)
redis.call('PEXPIRE', lead, ARGV[3])
return { 'lead', now, fence }
