-- For an operator's commands, which run where the instances' settings are not known: take what the instances
-- last asked with instead of ARGV 1, 2, 5 and 6. Included after slots_state.lua.
local configured = redis.call('HGET', room.caps, '*')
if configured then
  local limit, org_limit, requests, tokens = string.match(configured, '(%d+) (%d+) (%d+) (%d+)')
  room.configured_limit, room.org_limit = tonumber(limit), tonumber(org_limit)
  room.requests_limit, room.tokens_limit = tonumber(requests), tonumber(tokens)
else
  room.configured_limit = tonumber(ARGV[1])
end
room.limit = room.state.limit or room.configured_limit
