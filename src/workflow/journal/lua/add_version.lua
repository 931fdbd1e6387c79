-- Stores a version of a workflow. One that is there stays.
--
-- KEYS[1]  hash of the version
-- ARGV[2…] all fields and values
--
-- Returns 1 if it is stored, 0 if there was one.

if redis.call('HEXISTS', KEYS[1], 'graph') == 1 then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
