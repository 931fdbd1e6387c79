-- Stores one named value of a run's state.
--
-- KEYS[1]  hash of the run
-- KEYS[2]  hash of its state
-- ARGV[2]  name
-- ARGV[3]  value, JSON
-- ARGV[4]  updatedAt, milliseconds since 1970
--
-- Returns 1, or 0 if there is no such run.

if redis.call('HEXISTS', KEYS[1], 'id') == 0 then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('HSET', KEYS[1], 'updatedAt', ARGV[4])
return 1
