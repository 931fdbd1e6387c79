-- Takes a lock if it is free.
--
-- KEYS[1]  the lock
-- ARGV[1]  token of this acquisition
-- ARGV[2]  TTL in milliseconds
--
-- Returns -3 if the lock is ours, otherwise the milliseconds until it expires (-1: never, -2: it just did).

if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return -3
end
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'table' then
  return holder
end
-- Our own earlier attempt, whose reply was lost.
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return -3
end
return redis.call('PTTL', KEYS[1])
