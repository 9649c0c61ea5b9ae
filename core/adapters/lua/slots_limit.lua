-- An operator's limit, for all instances from now on.
--
-- ARGV  7: org ("": the limit of all together), 8: slots (0: as configured again)
-- Returns {outlook…}
--
-- Atomic, since a higher limit must let waiters run in the same step.
local org, slots = ARGV[7], tonumber(ARGV[8])
if org == '' then
  room.set('limit', slots > 0 and slots or nil)
  room.limit = room.state.limit or room.configured_limit
elseif slots > 0 then
  redis.call('HSET', room.caps, 'set ' .. org, slots)
else
  redis.call('HDEL', room.caps, 'set ' .. org)
end
room.pump()
return room.outlook()
