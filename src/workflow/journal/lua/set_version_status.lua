-- Changes the status of a version of a workflow.
--
-- KEYS[1]  hash of the version
-- ARGV[2]  status
--
-- Returns 1, or 0 if there is no such version.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'status', ARGV[2])
return 1
