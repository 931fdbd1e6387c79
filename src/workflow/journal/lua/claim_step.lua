-- Takes a step for execution: of all who try, one gets it.
--
-- KEYS[1]  hash of the step
-- KEYS[2]  says that this very request was carried out, for a copy of it: updatedAt of the claim, or no text if it came to
--          nothing
-- ARGV[2]  1 if an earlier attempt of this very call may have happened
-- ARGV[3]  run id
-- ARGV[4]  updatedAt, milliseconds since 1970
-- ARGV[5]  how long KEYS[2] is kept, in milliseconds
-- ARGV[6]  the function that is to run it (not if it has none)
--
-- Returns the outcome (missing, mismatch, taken, or claimed), and if claimed the fields and values of the step; 3 if the
-- step was claimed and has changed since.

local step = load(KEYS[1], #ARGV[3])
local answered = redis.call('GET', KEYS[2])
if answered then
  if answered ~= '' and redis.call('HGET', KEYS[1], 'updatedAt') == answered then
    return { 'claimed', redis.call('HGETALL', KEYS[1]) }
  end
  return 3
end
local outcome = outcome_of_claim(step, ARGV[3], ARGV[6])
if outcome ~= 'claimed' then
  if ARGV[2] == '1' then
    -- An earlier copy that comes late would claim the step for nobody.
    redis.call('SET', KEYS[2], '', 'PX', ARGV[5])
  end
  return { outcome }
end
-- Before the claim: whoever lacks the right to this has claimed nothing.
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
if step.status == 'failed' then
  begin_attempt(step, 'running', ARGV[4])
else
  move(step, 'running', ARGV[4])
end
return { outcome, redis.call('HGETALL', KEYS[1]) }
