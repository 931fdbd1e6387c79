-- Moves a step forward. A step that is done stays as it is, and so does one that is further than `scheduled` when
-- it is to be marked so: the queue may have run it before the mark came.
--
-- KEYS[1]  hash of the step
-- ARGV[1]  new status: scheduled, done or error
-- ARGV[2]  updatedAt, milliseconds since 1970
-- For scheduled:
-- ARGV[3]  1 if an earlier attempt of this very call may have happened
-- For done and error:
-- ARGV[3], ARGV[4]  field to write with its value: result or error
-- ARGV[5]  field that is now obsolete
-- ARGV[6]  1 if an earlier attempt of this very call may have happened (only for error)
--
-- Returns 1 if the step moved, 0 if it stayed, 2 if nobody can tell whether the earlier attempt happened: the step has
-- moved since.

local stored = redis.pcall('HMGET', KEYS[1], 'status', 'updatedAt')
if stored.err then
  return stored
end
local status = stored[1]
if status == 'done' or status == 'succeeded' then
  return 0
end
-- Every change is later than the one before it, whatever the clocks say: so the latest tells whether ours was made.
local now, last = tonumber(ARGV[2]), tonumber(stored[2]) or 0
if ARGV[6] == '1' then
  if last > now then
    return 2
  end
  if last == now and status == ARGV[1] and redis.call('HGET', KEYS[1], ARGV[3]) == ARGV[4] then
    return 1
  end
end
local moment = string.format('%.0f', math.max(now, last + 1))
if ARGV[1] == 'scheduled' then
  if status == 'scheduled' or status == 'running' then
    return 0
  end
  if ARGV[3] == '1' and (status == 'error' or status == 'failed') then
    return 0
  end
  redis.call('HSET', KEYS[1], 'status', ARGV[1], 'updatedAt', moment)
else
  redis.call('HSET', KEYS[1], 'status', ARGV[1], 'updatedAt', moment, ARGV[3], ARGV[4])
  redis.call('HDEL', KEYS[1], ARGV[5])
end
return 1
