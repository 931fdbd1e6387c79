-- Begins the next attempt of a step, unless it has succeeded. Every call counts.
--
-- KEYS[1]  hash of the step
-- ARGV[2]  1 if an earlier attempt of this very call may have happened
-- ARGV[3]  step id
-- ARGV[4]  length of the run id in it
-- ARGV[5]  status of the attempt: pending or running
-- ARGV[6]  updatedAt, milliseconds since 1970
--
-- Returns the fields and values of the step, and the step before and after; nothing if there is no such step; 3 if
-- nobody can tell whether the earlier attempt happened: the step has changed since.

local step = load(KEYS[1], tonumber(ARGV[4]), ARGV[3])
if not step or step.id ~= ARGV[3] then
  return {}
end
local before = look()
if ARGV[2] == '1' and may_have_changed(before, ARGV[6]) then
  if step.attempt > 1 and step.status == ARGV[5] and before[7] == ARGV[6] then
    return { redis.call('HGETALL', KEYS[1]), before, before }
  end
  return 3
end
if step.status ~= 'succeeded' then
  begin(step, ARGV[5], later(before[7], ARGV[6]))
end
return { redis.call('HGETALL', KEYS[1]), before, look() }
