-- Sets a field of a step that has no part in its status: childRunId or branchTaken.
--
-- KEYS[1]  hash of the step
-- ARGV[2]  step id
-- ARGV[3]  field
-- ARGV[4]  value
-- ARGV[5]  updatedAt, milliseconds since 1970
--
-- Returns 1, or -1 if there is no such step.

local stored = redis.call('HMGET', KEYS[1], 'stepId', 'updatedAt')
if stored[1] ~= ARGV[2] then
  return -1
end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4], 'updatedAt', later(stored[2], ARGV[5]))
return 1
