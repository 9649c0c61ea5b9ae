-- What an operator sees. Looks at every waiter, so it is not for the path of a turn; changes nothing but what
-- has expired.
--
-- ARGV  2: … the circuit's window (ms)
-- Returns {limit, configured limit, {org, held, waiting, oldest wait (ms), cap, …}, circuit ("closed", "open",
--   "half-open"), reason, open for (ms), cooldown (ms), requests and tokens of the last minute (-1: no limit),
--   {org, operator's limit, …}, attempts and failures that the circuit counts, ceiling, why the limit is what it
--   is ("ceiling", "operator", "refused", "latency")}
--
-- Atomic, so that the numbers belong together.
local waiting, oldest, names = {}, {}, {}
for org in pairs(holders()) do
  names[org] = true
end
for _, member in ipairs(call('ZRANGE', room.queue, 0, -1)) do
  local org = string.match(member, '^%S+')
  local record = record_of(id_of(org, member))
  names[org] = true
  waiting[org] = (waiting[org] or 0) + 1
  oldest[org] = math.max(oldest[org] or 0, room.now - record[SINCE])
end
local orgs = {}
for org in pairs(names) do
  for _, value in ipairs({ org, room.held[org] or 0, waiting[org] or 0, oldest[org] or 0, cap_of(org) }) do
    orgs[#orgs + 1] = value
  end
end

local circuit = 'closed'
if room.circuit_until > 0 then
  local probes = room.probe ~= '' and call('ZSCORE', room.leases, room.probe)
  circuit = room.now < room.circuit_until and not probes and 'open' or 'half-open'
end
local requests, tokens = -1, -1
if rated then
  requests, tokens = 0, 0
  for _, start in ipairs(call('ZRANGE', room.starts, 0, -1)) do
    requests, tokens = requests + 1, tokens + tonumber(string.match(start, '%d+$'))
  end
end
local overrides, caps = {}, call('HGETALL', room.caps)
for i = 1, #caps, 2 do
  if string.sub(caps[i], 1, 4) == 'set ' then
    overrides[#overrides + 1] = string.sub(caps[i], 5)
    overrides[#overrides + 1] = tonumber(caps[i + 1])
  end
end
local window_ms = struct.unpack('<d', ARGV[2], 33)
local sums, calls = { a = 0, f = 0 }, call('HGETALL', room.calls)
for i = 1, #calls, 2 do
  local kind, bucket = string.match(calls[i], '(%a) (%d+)')
  if tonumber(bucket) > math.floor(room.now / (window_ms / 30)) - 30 then
    sums[kind] = sums[kind] + tonumber(calls[i + 1]) % LATENCY_UNIT
  end
end
local reason = 'ceiling'
if room.limit < room.ceiling then
  reason = learnt.why == BY_LATENCY and 'latency' or 'refused'
elseif room.set_limit > 0 then
  reason = 'operator'
end
outlook() -- saves what has expired
return {
  room.limit, room.configured_limit, orgs,
  circuit, room.circuit_why, math.max(0, room.circuit_until - room.now),
  math.max(0, room.cool_until - room.now), requests, tokens, overrides,
  sums.a, sums.f,
  room.ceiling, reason,
}
