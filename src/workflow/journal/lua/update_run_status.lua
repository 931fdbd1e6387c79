-- Changes the status of an existing run, unless the run has ended for good.
--
-- KEYS[1]  hash of the run
-- ARGV[2]  1 if an earlier attempt of this very call may have happened
-- ARGV[3]  run id
-- ARGV[4]  new status
-- ARGV[5]  updatedAt, milliseconds since 1970
-- ARGV[6…] further fields and values: output, error
--
-- Returns 1 if the change is stored, 0 if there is no such run, 2 if the run's end is final, 3 if nobody can tell whether
-- the earlier attempt happened: the run has changed since.

local stored = redis.call('HMGET', KEYS[1], 'id', 'status', 'workflow', 'createdAt', 'updatedAt')
if not stored[1] then
  return 0
end
local repeated, status, now = ARGV[2] == '1', ARGV[4], ARGV[5]
if stored[2] == 'completed' or stored[2] == 'cancelled' then
  -- Ending once more, as a message delivered twice does, changes nothing.
  return stored[2] == status and 1 or repeated and 3 or 2
end
if repeated then
  local ours = stored[2] == status
  for i = 6, #ARGV, 2 do
    ours = ours and redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1]
  end
  if ours then
    return 1
  end
  if changed_since(stored[5], now) then
    return 3
  end
end
redis.call('HSET', KEYS[1], 'status', status, 'updatedAt', later(stored[5], now), unpack(ARGV, 6))
-- What an earlier attempt failed with is no error of a run that goes on or has completed.
if status ~= 'failed' and ARGV[6] ~= 'error' and ARGV[8] ~= 'error' then
  redis.call('HDEL', KEYS[1], 'error')
end
place_run(ARGV[3], stored[3] or '', tonumber(stored[4]) or now, stored[2], status)
place_idle(ARGV[3], now)
if status == 'running' then
  -- What waited with the run is looked for again.
  for _, name in ipairs(redis.call('ZRANGE', key('steps', ARGV[3]), 1, -1)) do
    local step = redis.call('HMGET', key('step', ARGV[3], name), 'stepId', 'status', 'updatedAt')
    if step[1] and step[2] == 'pending' then
      redis.call('ZADD', key('runs:pending-steps'), tonumber(step[3]) or now, #ARGV[3] .. ':' .. step[1])
    end
  end
end
return 1
