-- Stores a new step with its first attempt. A step that is there stays as it is.
--
-- KEYS[1]  hash of the step
-- ARGV[2]  1 if an earlier attempt of this very call may have happened
-- ARGV[3]  run id
-- ARGV[4]  step name
-- ARGV[5]  step id
-- ARGV[6]  createdAt, milliseconds since 1970
-- ARGV[7]  entry of the history, JSON
-- ARGV[8…] all fields and values
--
-- Returns 1 if the step is stored, 0 if there was one, 3 if nobody can tell: it is of this id and has gone further.

local stored = redis.call('HMGET', KEYS[1], 'stepId', 'status')
if stored[1] or TODAY[stored[2]] then
  -- The original may have made it in a run of ours.
  index_step(ARGV[3], ARGV[4])
  if ARGV[2] ~= '1' or stored[1] ~= ARGV[5] then
    return 0
  end
  for i = 8, #ARGV, 2 do
    if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then
      return 3
    end
  end
  return 1
end
-- A step of the documented service that has not ended makes room.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 8))
redis.call('ZADD', key('step-history', ARGV[5]), 1, ARGV[7])
place_step({ run = ARGV[3], name = ARGV[4], id = ARGV[5] }, 'pending', ARGV[6])
return 1
