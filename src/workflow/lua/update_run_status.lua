-- Changes the status of an existing run, unless the run has ended for good.
--
-- KEYS[1]  hash of the run
-- ARGV[1]  new status
-- ARGV[2]  updatedAt, milliseconds since 1970
-- ARGV[3]  1 to let the run leave a final status
-- ARGV[4…] further fields and values: output, error
--
-- Returns 1 if the change is stored, 0 if there is no such run, 2 if the run's end is final.

local stored = redis.pcall('HMGET', KEYS[1], 'id', 'status')
if stored.err then
  return stored
end
if not stored[1] then
  return 0
end
local final = stored[2] == 'completed' or stored[2] == 'cancelled'
if final and ARGV[3] ~= '1' then
  if stored[2] ~= ARGV[1] then
    return 2
  end
  -- Ending once more in the same way, as a message delivered twice does, changes nothing.
  for i = 4, #ARGV, 2 do
    if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then
      return 2
    end
  end
  return 1
end
redis.call('HSET', KEYS[1], 'status', ARGV[1], 'updatedAt', ARGV[2], unpack(ARGV, 4))
-- What an earlier attempt failed with is no error of a run that goes on or has completed.
if ARGV[1] ~= 'failed' and ARGV[4] ~= 'error' and ARGV[6] ~= 'error' then
  redis.call('HDEL', KEYS[1], 'error')
end
return 1
