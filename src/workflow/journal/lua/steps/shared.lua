-- Follows the `shared.lua` of all scripts where the keys of a run lie in several slots of a cluster: here each script
-- knows one key only. Every change of a step is later than the one before it, so that the notes of several changes in
-- the history come out the same in any order.

-- What the other keys are brought up to.
local function look()
  return redis.call('HMGET', KEYS[1], 'stepId', 'status', 'attemptCount', 'retries', 'retryDelay', 'runId',
    'updatedAt', 'createdAt', 'result', 'error')
end

-- Whether a step may have changed at or after a moment, other than by being inserted.
local function may_have_changed(seen, now)
  local inserted = (tonumber(seen[3]) or 1) == 1 and seen[7] == seen[8]
  return not inserted and (tonumber(seen[7]) or 0) >= tonumber(now)
end

-- Stores a new status of the current attempt, with its result or error. What is stored at last is what decides, so that
-- whoever lacks a right has not moved the step.
local function change(status, moment, payload, json)
  if payload then
    redis.call('HDEL', KEYS[1], payload == 'result' and 'error' or 'result')
    redis.call('HSET', KEYS[1], 'status', status, 'updatedAt', moment, payload, json)
  else
    redis.call('HSET', KEYS[1], 'status', status, 'updatedAt', moment)
  end
end

local function begin(step, status, moment)
  redis.call('HSET', KEYS[1], 'status', status, 'attemptCount', step.attempt + 1, 'updatedAt', moment)
end
