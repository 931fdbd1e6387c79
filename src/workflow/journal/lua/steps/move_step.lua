-- Moves the current attempt of a step to another status: scheduled only from pending, running only from pending,
-- scheduled and failed; what has succeeded stays so.
--
-- KEYS[1]  hash of the step
-- ARGV[2]  1 if an earlier attempt of this very call may have happened
-- ARGV[3]  step id
-- ARGV[4]  length of the run id in it
-- ARGV[5]  new status
-- ARGV[6]  updatedAt, milliseconds since 1970
-- ARGV[7]  result or error, the field that goes with the status (not for others)
-- ARGV[8]  its JSON, or no text for `undefined`
--
-- Returns 1 if the step moved, 0 if it stayed, each with the step before and after; -1 if there is no such step; 3 if
-- nobody can tell whether the earlier attempt happened: the step has changed since.

local step = load(KEYS[1], tonumber(ARGV[4]), ARGV[3])
if not step or step.id ~= ARGV[3] then
  return -1
end
local from, to, before = step.status, ARGV[5], look()
if ARGV[2] == '1' and may_have_changed(before, ARGV[6]) then
  if from == to and (not ARGV[7] or before[ARGV[7] == 'result' and 9 or 10] == ARGV[8]) then
    return { 1, before, before }
  elseif from ~= 'succeeded' or to ~= 'succeeded' then
    return 3
  end
end
if from == 'succeeded'
  or (to == 'scheduled' and from ~= 'pending')
  or (to == 'running' and from ~= 'pending' and from ~= 'scheduled' and from ~= 'failed') then
  return { 0, before, before }
end
change(to, later(before[7], ARGV[6]), ARGV[7], ARGV[8])
return { 1, before, look() }
