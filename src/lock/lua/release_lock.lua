-- Frees a lock that is still held under a token, and announces it.
--
-- KEYS[1]  the lock
-- ARGV[1]  the token
-- ARGV[2]  channel on which releases of this lock are announced
-- ARGV[3]  the same as a sharded channel, for servers and users that know these; empty outside of a cluster
--
-- Returns 1 if the lock was freed, 0 if it is not held under this token, or the token of whoever holds it.

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
redis.call('DEL', KEYS[1])
-- Not allowed for every user; those who wait then poll.
if ARGV[3] == '' or type(redis.pcall('SPUBLISH', ARGV[3], '')) == 'table' then
  redis.pcall('PUBLISH', ARGV[2], '')
end
return 1
