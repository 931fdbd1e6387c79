-- Sets the time left of a lock that is still held under a token.
--
-- KEYS[1]  the lock
-- ARGV[1]  token
-- ARGV[2]  TTL in milliseconds
--
-- Returns 1 if it was extended, 0 if it is not held under this token.

local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'table' then
  return holder
end
if holder ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
