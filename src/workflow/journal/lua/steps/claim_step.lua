-- Takes a step for execution: of all who try, one gets it.
--
-- KEYS[1]  hash of the step
-- ARGV[2]  run id
-- ARGV[3]  updatedAt, milliseconds since 1970
-- ARGV[4]  the function that is to run it (not if it has none)
--
-- Returns the outcome (missing, mismatch, taken, or claimed), and if claimed the fields and values of the step, and the
-- step before and after.

local step = load(KEYS[1], #ARGV[2])
if not step or step.run ~= ARGV[2] then
  return { 'missing' }
end
if (redis.call('HGET', KEYS[1], 'rpcName') or nil) ~= ARGV[4] then
  return { 'mismatch' }
end
local before = look()
local moment = later(before[7], ARGV[3])
if step.status == 'failed' then
  begin(step, 'running', moment)
elseif step.status == 'pending' or step.status == 'scheduled' then
  change('running', moment)
else
  return { 'taken' }
end
return { 'claimed', redis.call('HGETALL', KEYS[1]), before, look() }
