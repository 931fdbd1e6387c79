-- Changes the time left of a lock that is still held under a token.
--
-- KEYS[1]  the lock
-- ARGV[1]  the token
-- ARGV[2]  TTL in milliseconds
-- ARGV[3]  1 if a time left that is longer already stays as it is, otherwise 0
--
-- Returns 1 if it was extended, 0 if nobody holds it, or the token of whoever does.

local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'table' then
  return holder
end
if not holder then
  return 0
end
if holder ~= ARGV[1] then
  return holder
end
if ARGV[3] == '1' and redis.call('PTTL', KEYS[1]) >= tonumber(ARGV[2]) then
  return 1
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
