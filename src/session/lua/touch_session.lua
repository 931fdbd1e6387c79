-- Gives a session new time.
--
-- KEYS[1]  the session
-- KEYS[2]  its record
-- ARGV[1]  TTL of the session in milliseconds
-- ARGV[2]  TTL of the record in milliseconds
--
-- Returns 1, or 0 if there is no session.

if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
