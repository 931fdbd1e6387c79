-- Moves the current attempt of a step to another status: scheduled only from pending, running only from pending,
-- scheduled and failed; what has succeeded stays so.
--
-- KEYS[1]  hash of the step
-- ARGV[2]  step id
-- ARGV[3]  length of the run id in it
-- ARGV[4]  new status
-- ARGV[5]  updatedAt, milliseconds since 1970
-- ARGV[6]  result or error, the field that goes with the status (not for others)
-- ARGV[7]  its JSON, or no text for `undefined`
--
-- Returns 1 if the step moved, 0 if it stayed, -1 if there is no such step.

local step = load(KEYS[1], tonumber(ARGV[3]), ARGV[2])
if not step or step.id ~= ARGV[2] then
  return -1
end
local from, to = step.status, ARGV[4]
if from == 'succeeded'
  or (to == 'scheduled' and from ~= 'pending')
  or (to == 'running' and from ~= 'pending' and from ~= 'scheduled' and from ~= 'failed') then
  return 0
end
move(step, to, ARGV[5], ARGV[6], ARGV[7])
return 1
