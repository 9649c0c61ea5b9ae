-- Take all of the operators' limits back, for all instances from now on.
--
-- Returns {outlook…}
--
-- Atomic, since a higher limit must let waiters run in the same step.
room.set('limit', nil)
room.limit = room.configured_limit
for _, field in ipairs(redis.call('HKEYS', room.caps)) do
  if string.sub(field, 1, 4) == 'set ' then
    redis.call('HDEL', room.caps, field)
  end
end
room.pump()
return room.outlook()
