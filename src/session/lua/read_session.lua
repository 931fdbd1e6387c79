-- Reads a session and its version.
--
-- KEYS[1]  the session
-- KEYS[2]  its record
--
-- Returns the session (or nil), and what the record says (or nil).

local session = redis.pcall('GET', KEYS[1])
if type(session) == 'table' then
  return session
end
return {session, redis.call('GET', KEYS[2])}
