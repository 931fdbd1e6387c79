-- Stores a new step with its first attempt. A step that is there stays as it is.
--
-- KEYS[1]  hash of the step
-- ARGV[2]  run id
-- ARGV[3]  step name
-- ARGV[4]  step id
-- ARGV[5]  createdAt, milliseconds since 1970
-- ARGV[6]  entry of the history, JSON
-- ARGV[7…] all fields and values
--
-- Returns 1 if the step is stored, 0 if there was one.

local stored = redis.call('HMGET', KEYS[1], 'stepId', 'status')
if stored[1] or TODAY[stored[2]] then
  -- The original may have made it in a run of ours.
  index_step(ARGV[2], ARGV[3])
  return 0
end
-- A step of the documented service that has not ended makes room.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
redis.call('ZADD', key('step-history', ARGV[4]), 1, ARGV[6])
place_step({ run = ARGV[2], name = ARGV[3], id = ARGV[4] }, 'pending', ARGV[5])
return 1
