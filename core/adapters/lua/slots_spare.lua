-- Ask for a slot of the lowest class, for work that no customer waits for: granted at once or not at all, so it
-- never stands before anybody. Nobody may be waiting, the provider must be well, and half of the slots and of the
-- rates stay free for the customers of the next seconds. Included after slots_pump.lua.
--
-- ARGV  2: … longest wait (ms; not used), the clinic's own cap (not used), tokens (estimate); 3: org (no clinic's
--       name, so that no clinic's share or cap is touched), 4: ticket, 5: nonce of this request, 6: wake channel
-- Returns as slots_acquire.lua; status is "granted", "taken" or "waited"
--
-- Atomic, since between looking and taking a customer may come. Asking again with the same nonce says how it stands.
local _, _, tokens = struct.unpack('<ddd', ARGV[2], 33)
local org, ticket, nonce = ARGV[3], ARGV[4], ARGV[5]
local id = org .. ' ' .. ticket
room.asker = nonce

pump() -- who waits comes first, also where a slot has just expired
local function is_spare()
  if call('EXISTS', room.orgs) == 1 or gate() or room.circuit_until > 0 then
    return false
  end
  if room.used >= math.max(1, math.floor(room.limit / 2)) then
    return false
  end
  if room.requests_limit > 0 and 2 * (call('ZCARD', room.starts) + 1) > room.requests_limit then
    return false
  end
  return not by_tokens or (not room.saving and 2 * (room.spent + tokens) <= room.tokens_limit)
end

local record = record_of(id)
if not record and is_spare() then
  record = { 0, next_tick(), room.now, room.now, tokens, 0, nonce, ARGV[6] }
  lease(id, org, record)
end
if not record then
  return { 'waited', outlook(0, 0, 0) }
elseif record[NONCE] ~= nonce then
  return { 'taken', outlook(record[PLACE], 0, 0) }
end
return { 'granted', outlook(record[PLACE], record[FENCE], 0) }
