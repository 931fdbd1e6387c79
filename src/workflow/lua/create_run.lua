-- Stores a new run, as HSET does, for calls under a fence.
--
-- KEYS[1]  hash of the run
-- ARGV     all fields and values
--
-- Returns 1.

redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
