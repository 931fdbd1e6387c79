-- Changes the status of an existing run, unless the run has ended for good.
--
-- KEYS[1]  hash of the run
-- ARGV[1]  new status
-- ARGV[2]  updatedAt, milliseconds since 1970
-- ARGV[3]  1 to let the run leave a final status
-- ARGV[4]  1 if an earlier attempt of this very call may have happened
-- ARGV[5…] further fields and values: output, error
--
-- Returns 1 if the change is stored, 0 if there is no such run, 2 if the run's end is final, 3 if nobody can tell
-- whether the earlier attempt happened: the run has changed since.

local stored = redis.pcall('HMGET', KEYS[1], 'id', 'status', 'updatedAt')
if stored.err then
  return stored
end
if not stored[1] then
  return 0
end
-- Every change is later than the one before it, whatever the clocks say: so the latest tells whether ours was made.
local now, last = tonumber(ARGV[2]), tonumber(stored[3]) or 0
if ARGV[4] == '1' then
  if last > now then
    return 3
  end
  local ours = last == now and stored[2] == ARGV[1]
  for i = 5, #ARGV, 2 do
    ours = ours and redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1]
  end
  if ours then
    return 1
  end
end
local final = stored[2] == 'completed' or stored[2] == 'cancelled'
if final and ARGV[3] ~= '1' then
  if stored[2] ~= ARGV[1] then
    return 2
  end
  -- Ending once more in the same way, as a message delivered twice does, changes nothing.
  for i = 5, #ARGV, 2 do
    if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then
      return 2
    end
  end
  return 1
end
local moment = string.format('%.0f', math.max(now, last + 1))
redis.call('HSET', KEYS[1], 'status', ARGV[1], 'updatedAt', moment, unpack(ARGV, 5))
-- What an earlier attempt failed with is no error of a run that goes on or has completed.
if ARGV[1] ~= 'failed' and ARGV[5] ~= 'error' and ARGV[7] ~= 'error' then
  redis.call('HDEL', KEYS[1], 'error')
end
return 1
