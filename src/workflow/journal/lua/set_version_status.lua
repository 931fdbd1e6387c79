-- Changes the status of a version of a workflow.
--
-- KEYS[1]  hash of the version
-- KEYS[2]  says that this very request was carried out, for a copy of it; without it, no copy may be sent
-- ARGV[2]  status
-- ARGV[3]  how long KEYS[2] is kept, in milliseconds
--
-- Returns 1, or 0 if there is no such version.

if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then
  return 1
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'status', ARGV[2])
if KEYS[2] then
  redis.call('SET', KEYS[2], '', 'PX', ARGV[3])
end
return 1
