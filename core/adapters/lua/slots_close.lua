-- An operator closes the circuit, and ends a cooldown: the provider works again.
--
-- Returns {outlook…: 1 if it was not closed before or there was a cooldown}
--
-- Atomic, since waiters must run in the same step. What holds grants back after a loss of data stays.
local was = (room.circuit_until > 0 or room.cool_until > math.max(room.now, room.lost_until)) and 1 or 0
room.circuit_until, room.circuit_ms, room.circuit_why, room.probe, room.changed = 0, 0, '', '', true
room.cool_until = room.lost_until
call('DEL', room.calls)
pump()
return { outlook(was) }
