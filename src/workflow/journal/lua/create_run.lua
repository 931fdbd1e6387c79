-- Stores a new run and lists it.
--
-- KEYS[1]  hash of the run
-- ARGV[2]  run id
-- ARGV[3]  workflow
-- ARGV[4]  createdAt, milliseconds since 1970
-- ARGV[5…] all fields and values
--
-- Returns 1.

redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('ZADD', key('steps', ARGV[2]), 0, '')
place_run(ARGV[2], ARGV[3], ARGV[4], nil, 'running')
place_idle(ARGV[2], ARGV[4])
return 1
