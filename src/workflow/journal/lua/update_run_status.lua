-- Changes the status of an existing run, unless the run has ended for good.
--
-- KEYS[1]  hash of the run
-- ARGV[2]  run id
-- ARGV[3]  new status
-- ARGV[4]  updatedAt, milliseconds since 1970
-- ARGV[5…] further fields and values: output, error
--
-- Returns 1 if the change is stored, 0 if there is no such run, 2 if the run's end is final.

local stored = redis.call('HMGET', KEYS[1], 'id', 'status', 'workflow', 'createdAt')
if not stored[1] then
  return 0
end
local status, now = ARGV[3], ARGV[4]
if stored[2] == 'completed' or stored[2] == 'cancelled' then
  -- Ending once more, as a message delivered twice does, changes nothing.
  return stored[2] == status and 1 or 2
end
redis.call('HSET', KEYS[1], 'status', status, 'updatedAt', now, unpack(ARGV, 5))
-- What an earlier attempt failed with is no error of a run that goes on or has completed.
if status ~= 'failed' and ARGV[5] ~= 'error' and ARGV[7] ~= 'error' then
  redis.call('HDEL', KEYS[1], 'error')
end
place_run(ARGV[2], stored[3] or '', tonumber(stored[4]) or now, stored[2], status)
place_idle(ARGV[2], now)
if status == 'running' then
  -- What waited with the run is looked for again.
  for _, name in ipairs(redis.call('ZRANGE', key('steps', ARGV[2]), 1, -1)) do
    local step = redis.call('HMGET', key('step', ARGV[2], name), 'stepId', 'status', 'updatedAt')
    if step[1] and step[2] == 'pending' then
      redis.call('ZADD', key('runs:pending-steps'), tonumber(step[3]) or now, #ARGV[2] .. ':' .. step[1])
    end
  end
end
return 1
