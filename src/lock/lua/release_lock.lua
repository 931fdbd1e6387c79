-- Frees a lock that is still held under a token, and announces it.
--
-- KEYS[1]  the lock
-- KEYS[2]  token under which it was held when it was last released by force (only for a repetition)
-- ARGV[1]  the token
-- ARGV[2]  channel on which releases of this lock are announced
-- ARGV[3]  the same as a sharded channel, for servers and users that know these; empty outside of a cluster
--
-- Returns 1 if the lock was freed; if it is not held under this token, 0, or the token of whoever holds it; or -1 for a
-- repetition that cannot tell, as an earlier copy may have freed it.

local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'table' then
  return holder
end
if holder ~= ARGV[1] then
  if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[1] then
    return -1
  end
  return holder or 0
end
redis.call('DEL', KEYS[1])
-- Not allowed for every user; those who wait then poll.
if ARGV[3] == '' or type(redis.pcall('SPUBLISH', ARGV[3], '')) == 'table' then
  redis.pcall('PUBLISH', ARGV[2], '')
end
return 1
