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
--
-- Returns 1 if the step moved, 0 if it stayed.

local status = redis.pcall('HGET', KEYS[1], 'status')
if type(status) == 'table' then
  return status
end
if status == 'done' or status == 'succeeded' then
  return 0
end
if ARGV[1] == 'scheduled' then
  if status == 'scheduled' or status == 'running' then
    return 0
  end
  if ARGV[3] == '1' and (status == 'error' or status == 'failed') then
    return 0
  end
  redis.call('HSET', KEYS[1], 'status', ARGV[1], 'updatedAt', ARGV[2])
else
  redis.call('HSET', KEYS[1], 'status', ARGV[1], 'updatedAt', ARGV[2], ARGV[3], ARGV[4])
  redis.call('HDEL', KEYS[1], ARGV[5])
end
return 1
