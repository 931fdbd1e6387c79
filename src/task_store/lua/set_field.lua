-- Sets a field of one hash of an execution, and gives the hash its time to live.
--
-- KEYS[1]  hash of tasks under way, or of results
-- ARGV[1]  task
-- ARGV[2]  what to set
-- ARGV[3]  TTL in milliseconds, 0 for none
--
-- Returns 1.

local reply = redis.pcall('HSET', KEYS[1], ARGV[1], ARGV[2])
if type(reply) == 'table' then
  return reply
end
if ARGV[3] ~= '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
