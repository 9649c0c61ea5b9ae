-- The heartbeat of one process: prolong its leases, mark its waiters alive, and let run whoever is next.
--
-- ARGV  2: … longest time that a slot may be held (ms), number of leases; 3…: org, ticket, fence of each;
--       then org, ticket, nonce of each waiter
-- Returns {outlook…: for each lease: 1 prolonged, 0 lost; for each waiter: its fence if it was granted (the
--   claim becomes a lease), 0 still waiting, -1 unknown}
--
-- Atomic, since a lease that another operation has just swept must not come back. A fence that does not match
-- changes nothing: the ticket was granted again to somebody else.
local max_hold_ms, leases = struct.unpack('<dd', ARGV[2], 33)

local function prolong(id, record)
  keep_lease(id, math.min(room.now + room.lease_ms, record[GRANTED] + max_hold_ms))
end

local results = {}
for i = 3, 2 + 3 * leases, 3 do
  local id = ARGV[i] .. ' ' .. ARGV[i + 1]
  local record, fence = record_of(id), tonumber(ARGV[i + 2])
  if not record and room.now < room.lost_until then
    record = { fence, fence, room.now, 0, 0, room.now, '', '' }
    keep_record(id, record)
    room.used = room.used + 1
  end
  local mine = record and record[FENCE] == fence
  if mine then
    prolong(id, record)
  end
  results[#results + 1] = mine and 1 or 0
end

local records = {}
for i = 3 + 3 * leases, #ARGV, 3 do
  local org, ticket = ARGV[i], ARGV[i + 1]
  local record = record_of(org .. ' ' .. ticket)
  if record and record[NONCE] == ARGV[i + 2] then
    records[i] = record
    if record[FENCE] == 0 then
      local alive_until = math.min(record[DEADLINE], room.now + room.lease_ms)
      keep_waiting(member_of(org, record[PLACE], ticket), alive_until)
    end
  end
end
local used_before = room.used
pump()
for i = 3 + 3 * leases, #ARGV, 3 do
  local id, record = ARGV[i] .. ' ' .. ARGV[i + 1], records[i]
  if record and room.used > used_before then
    record = record_of(id)
  end
  if record and record[FENCE] > 0 then
    prolong(id, record)
  end
  results[#results + 1] = record and record[FENCE] or -1
end

return { outlook(unpack(results)) }
