-- Reads a session and its version.
--
-- KEYS[1]  the session
-- KEYS[2]  its record
--
-- Returns the session, what its record says but for the names of writes, and the milliseconds that it has left, as text; nil for each that there is
-- not.

local session = redis.pcall('GET', KEYS[1])
if type(session) == 'table' then
  return session
end
local left = session and redis.call('PTTL', KEYS[1]) or -1
local record = redis.call('GET', KEYS[2])
return {session, record and string.match(record, '^[^;]*'), left >= 0 and tostring(left)}
