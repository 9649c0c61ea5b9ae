-- Erase all that is kept of a conversation but the ids of what must not be answered any more.
--
-- KEYS  as mailbox_begin.lua
-- ARGV  1: fence, 2: retention of the marks (ms), 3…: further ids to be marked as done
-- Returns how many waiting events were dropped, or false if the fence no longer holds (nothing was erased)
--
-- Atomic, since an event that arrives between the look and the erasing must be in neither or in both.
local lead, events, overflow, done, session, announced, _, generation = unpack(KEYS)
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
if not leads(lead, generation, ARGV[1], now_us) then
  return false
end
local ids = redis.call('HKEYS', events)
for _, id in ipairs(redis.call('ZRANGE', overflow, 0, -1)) do
  ids[#ids + 1] = id
end
local dropped = #ids
for i = 3, #ARGV do
  ids[#ids + 1] = ARGV[i]
end
redis.call('DEL', lead, events, overflow, done, session, announced)
for _, id in ipairs(ids) do
  redis.call('ZADD', done, math.floor(now_us / 1000), id)
  redis.call('PEXPIRE', done, ARGV[2])
end
return dropped
