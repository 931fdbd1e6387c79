-- Takes a ticket, which can be done once.
--
-- KEYS[1]  the ticket
--
-- Returns what was issued, or nil if there is no such ticket.

local issued = redis.pcall('GET', KEYS[1])
if type(issued) == 'string' then
  redis.call('DEL', KEYS[1])
end
return issued
