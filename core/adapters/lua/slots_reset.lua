-- Take all of the operators' limits back, for all instances from now on.
--
-- Returns {outlook…}
--
-- Atomic, since a higher limit must let waiters run in the same step.
room.set_limit, room.ceiling = 0, room.configured_limit
forget_learnt()
for _, field in ipairs(call('HKEYS', room.caps)) do
  if string.sub(field, 1, 4) == 'set ' then
    call('HDEL', room.caps, field)
  end
end
pump()
return { outlook() }
