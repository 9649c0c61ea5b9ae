-- An operator's limit, for all instances from now on.
--
-- ARGV  2: … slots (0: as configured again); 3: org ("": the limit of all together)
-- Returns {outlook…}
--
-- Atomic, since a higher limit must let waiters run in the same step.
local slots = struct.unpack('<d', ARGV[2], 33)
local org = ARGV[3]
if org == '' then
  room.set_limit, room.changed = slots, true
  room.ceiling = slots > 0 and slots or room.configured_limit
  forget_learnt()
elseif slots > 0 then
  call('HSET', room.caps, 'set ' .. org, slots)
  room.capped, room.changed = 1, true
else
  call('HDEL', room.caps, 'set ' .. org)
end
pump()
return { outlook() }
