-- A turn of the clinic has to wait for its slot: from now on its new turns are planned.
--
-- KEYS  1: plan (backlog.lua)
-- ARGV  1: turns that should wait in the room, 2: ms between two grants until it has been seen
--
-- Atomic, since what was measured must not be overwritten.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'granted', 4, 'during', 4 * ARGV[2], 'last', 0, 'again', 0, 'depth', ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], KEPT_MS)
