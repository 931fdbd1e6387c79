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
-- Returns 1 if the step moved, 0 if it stayed, -1 if there is no such step, 3 if nobody can tell whether the earlier
-- attempt happened: the step has moved to this status since.

local step = load(KEYS[1], tonumber(ARGV[4]), ARGV[3])
if not step or step.id ~= ARGV[3] then
  return -1
end
local from, to, now = step.status, ARGV[5], ARGV[6]
if ARGV[2] == '1' then
  -- Each change leaves its moment in the history, also where other attempts have followed.
  for _, entry in ipairs(redis.call('ZREVRANGE', key('step-history', step.id), 0, 1)) do
    local moment = moment_of(entry, to .. 'At')
    if moment == tonumber(now) then
      return 1
    elseif moment and moment > tonumber(now) and to ~= 'succeeded' then
      return 3
    end
  end
end
if from == 'succeeded'
  or (to == 'scheduled' and from ~= 'pending')
  or (to == 'running' and from ~= 'pending' and from ~= 'scheduled' and from ~= 'failed') then
  return 0
end
move(step, to, now, ARGV[7], ARGV[8])
return 1
