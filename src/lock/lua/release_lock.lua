-- Frees a lock that is still held under a token, and announces it.
--
-- KEYS[1]  the lock
-- KEYS[2]  where a copy may have been sent: if ARGV[4] is a time, says that this very request has freed it; otherwise the
--          token under which it was held when it was last released by force
-- ARGV[1]  the token
-- ARGV[2]  channel on which releases of this lock are announced
-- ARGV[3]  the same as a sharded channel, for servers and users that know these; empty outside of a cluster
-- ARGV[4]  how long to say in KEYS[2] that this request has freed the lock, in milliseconds, or empty
--
-- Returns 1 if the lock was freed, by this copy of the request or the one before; if it is not held under this token, 0,
-- or the token of whoever holds it; or -1 for a repetition that cannot tell, as an earlier copy may have freed it.

local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'table' then
  return holder
end
if holder ~= ARGV[1] then
  if KEYS[2] and ARGV[4] ~= '' then
    if redis.call('EXISTS', KEYS[2]) == 1 then
      return 1
    end
  elseif KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[1] then
    return -1
  end
  return holder or 0
end
redis.call('DEL', KEYS[1])
if ARGV[4] ~= '' then
  -- Only what was freed matters, and a server without room for more accepts this after the deletion at most.
  redis.pcall('SET', KEYS[2], '', 'PX', ARGV[4])
end
-- Not allowed for every user; those who wait then poll.
if ARGV[3] == '' or type(redis.pcall('SPUBLISH', ARGV[3], '')) == 'table' then
  redis.pcall('PUBLISH', ARGV[2], '')
end
return 1
