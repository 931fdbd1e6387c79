-- Begins the next attempt of a step, unless it has succeeded. Every call counts.
--
-- KEYS[1]  hash of the step
-- ARGV[2]  step id
-- ARGV[3]  length of the run id in it
-- ARGV[4]  status of the attempt: pending or running
-- ARGV[5]  updatedAt, milliseconds since 1970
--
-- Returns the fields and values of the step, none if there is no such step.

local step = load(KEYS[1], tonumber(ARGV[3]), ARGV[2])
if not step or step.id ~= ARGV[2] then
  return {}
end
if step.status ~= 'succeeded' then
  begin_attempt(step, ARGV[4], ARGV[5])
end
return redis.call('HGETALL', KEYS[1])
