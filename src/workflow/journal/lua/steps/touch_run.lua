-- Says that something of a run changes.
--
-- KEYS[1]  hash of the run
-- ARGV[2]  updatedAt, milliseconds since 1970
--
-- Returns the moment of the change, or nothing if there is no such run.

local stored = redis.call('HMGET', KEYS[1], 'id', 'updatedAt')
if not stored[1] then
  return false
end
local moment = later(stored[2], ARGV[2])
redis.call('HSET', KEYS[1], 'updatedAt', moment)
return moment
