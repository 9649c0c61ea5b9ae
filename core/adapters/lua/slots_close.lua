-- An operator closes the circuit: the provider works again.
--
-- Returns {1 it was not closed before, outlook…}
--
-- Atomic, since waiters must run in the same step.
local was = room.state.circuit_until and 1 or 0
room.forget_circuit()
room.pump()
return { was, unpack(room.outlook()) }
