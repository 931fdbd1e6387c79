-- Stores one named value of a run's state.
--
-- KEYS[1]  hash of the run
-- KEYS[2]  hash of its state
-- ARGV[2]  1 if an earlier attempt of this very call may have happened
-- ARGV[3]  name
-- ARGV[4]  value, JSON
-- ARGV[5]  updatedAt, milliseconds since 1970
--
-- Returns 1, 0 if there is no such run, or 3 if nobody can tell whether the earlier attempt happened: the run has changed
-- since.

local stored = redis.call('HMGET', KEYS[1], 'id', 'updatedAt')
if not stored[1] then
  return 0
end
if ARGV[2] == '1' then
  if redis.call('HGET', KEYS[2], ARGV[3]) == ARGV[4] then
    return 1
  end
  if changed_since(stored[2], ARGV[5]) then
    return 3
  end
end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
redis.call('HSET', KEYS[1], 'updatedAt', later(stored[2], ARGV[5]))
return 1
