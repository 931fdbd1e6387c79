-- Begins the next attempt of a step, unless it has succeeded. Every call counts.
--
-- KEYS[1]  hash of the step
-- ARGV[2]  1 if an earlier attempt of this very call may have happened
-- ARGV[3]  step id
-- ARGV[4]  length of the run id in it
-- ARGV[5]  status of the attempt: pending or running
-- ARGV[6]  updatedAt, milliseconds since 1970
--
-- Returns the fields and values of the step, none if there is no such step, or 3 if a later attempt of the step has begun
-- since the earlier attempt of this call.

local step = load(KEYS[1], tonumber(ARGV[4]), ARGV[3])
if not step or step.id ~= ARGV[3] then
  return {}
end
local begun
if ARGV[2] == '1' then
  -- Each attempt has the moment of its beginning in the history. The first was not begun by such a call.
  local history = key('step-history', step.id)
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', history, 2, step.attempt)) do
    if moment_of(entry, 'createdAt') == tonumber(ARGV[6]) then
      begun = tonumber(redis.call('ZSCORE', history, entry))
    end
  end
  if begun and begun < step.attempt then
    return 3
  end
end
if not begun and step.status ~= 'succeeded' then
  begin_attempt(step, ARGV[5], ARGV[6])
end
return redis.call('HGETALL', KEYS[1])
