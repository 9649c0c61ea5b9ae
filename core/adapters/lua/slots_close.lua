-- An operator closes the circuit: the provider works again.
--
-- Returns {1 it was not closed before, outlook…}
--
-- Atomic, since waiters must run in the same step.
local was = room.state.circuit_until and 1 or 0
room.set('circuit_until', nil)
room.state.circuit_ms, room.state.circuit_why, room.state.probe = nil, nil, nil
redis.call('DEL', room.calls)
room.pump()
return { was, unpack(room.outlook()) }
