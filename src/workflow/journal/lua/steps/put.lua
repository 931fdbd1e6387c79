-- Sets fields of a hash, which is made if there is none.
--
-- KEYS[1]  hash
-- ARGV[2…] fields and values
--
-- Returns 1.

redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
