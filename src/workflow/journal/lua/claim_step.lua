-- Takes a step for execution: of all who try, one gets it.
--
-- KEYS[1]  hash of the step
-- ARGV[2]  run id
-- ARGV[3]  updatedAt, milliseconds since 1970
-- ARGV[4]  the function that is to run it (not if it has none)
--
-- Returns the outcome (missing, mismatch, taken, or claimed), and if claimed the fields and values of the step.

local step = load(KEYS[1], #ARGV[2])
if not step or step.run ~= ARGV[2] then
  return { 'missing' }
end
if (redis.call('HGET', KEYS[1], 'rpcName') or nil) ~= ARGV[4] then
  return { 'mismatch' }
end
if step.status == 'failed' then
  begin_attempt(step, 'running', ARGV[3])
elseif step.status == 'pending' or step.status == 'scheduled' then
  move(step, 'running', ARGV[3])
else
  return { 'taken' }
end
return { 'claimed', redis.call('HGETALL', KEYS[1]) }
