-- Changes the status of an existing run, unless the run has ended for good.
--
-- KEYS[1]  hash of the run
-- ARGV[2]  1 if an earlier attempt of this very call may have happened
-- ARGV[3]  new status
-- ARGV[4]  updatedAt, milliseconds since 1970
-- ARGV[5…] further fields and values: output, error
--
-- Returns 1 if the change is stored, 0 if there is no such run, 2 if the run's end is final, 3 if nobody can tell whether
-- the earlier attempt happened: the run has changed since.

local stored = redis.call('HMGET', KEYS[1], 'id', 'status', 'updatedAt')
if not stored[1] then
  return 0
end
local repeated, status, now = ARGV[2] == '1', ARGV[3], ARGV[4]
if stored[2] == 'completed' or stored[2] == 'cancelled' then
  -- Ending once more, as a message delivered twice does, changes nothing.
  return stored[2] == status and 1 or repeated and 3 or 2
end
if repeated then
  local ours = stored[2] == status
  for i = 5, #ARGV, 2 do
    ours = ours and redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1]
  end
  if ours then
    return 1
  end
  if changed_since(stored[3], now) then
    return 3
  end
end
redis.call('HSET', KEYS[1], 'status', status, 'updatedAt', later(stored[3], now), unpack(ARGV, 5))
-- What an earlier attempt failed with is no error of a run that goes on or has completed.
if status ~= 'failed' and ARGV[5] ~= 'error' and ARGV[7] ~= 'error' then
  redis.call('HDEL', KEYS[1], 'error')
end
return 1
