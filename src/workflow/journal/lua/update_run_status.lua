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
local status, now = ARGV[4], ARGV[5]
local changed, answer = change_status(stored[2], stored[5], status, now, 6)
if not changed then
  return answer
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
