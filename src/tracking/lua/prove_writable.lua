-- Writes and reads.
--
-- KEYS[1]  a string of the caller's own
-- ARGV[1]  what to write
-- ARGV[2]  TTL in milliseconds
--
-- Returns what was read.

redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return redis.call('GET', KEYS[1])
