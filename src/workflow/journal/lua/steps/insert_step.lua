-- Stores a new step, unless there is one.
--
-- KEYS[1]  hash of the step
-- ARGV[2]  1 if an earlier attempt of this very call may have happened
-- ARGV[3]  step id
-- ARGV[4…] all fields and values
--
-- Returns 1 and what is stored, 0 and the id of the step that was there, or 3 if nobody can tell: it is of this id and
-- has gone further.

local stored = redis.call('HMGET', KEYS[1], 'stepId', 'status')
if stored[1] or TODAY[stored[2]] then
  if ARGV[2] ~= '1' or stored[1] ~= ARGV[3] then
    return { 0, stored[1] or '' }
  end
  for i = 4, #ARGV, 2 do
    if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then
      return 3
    end
  end
  return { 1, look() }
end
-- A step of the documented service that has not ended makes room.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
return { 1, look() }
