-- For an operator's commands, which run where the instances' settings are not known: take what the instances
-- last asked with instead of ARGV 1. Included after slots_room.lua.
room.configured_limit, room.org_limit, room.lease_ms, room.claim_ms, room.requests_limit, room.tokens_limit =
  struct.unpack(OPTIONS, room.seen)
room.ceiling, room.by_operator = room.set_limit > 0 and room.set_limit or room.configured_limit, true
