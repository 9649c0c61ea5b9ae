-- Redis has forgotten the scripts: was it flushed of them, or did it come back empty? Then those who held a
-- slot may still be calling the provider, unknown here, so nobody gets one until the last of their leases has
-- run out at its holder.
--
-- Returns {outlook…}
--
-- Atomic like every operation; only the first after the loss finds no state.
if not packed_state then
  room.set('cool_until', room.now + room.lease_ms)
end
return room.outlook()
