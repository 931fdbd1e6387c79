-- What the scripts of the journal share; it stands before each of them. ARGV[1] is always the prefix of all keys.
--
-- Keys of others (contract of @pikku/redis):
--   run:<run>                     hash
--   step:<run>:<step>             hash
--   step-history:<step id>        sorted set: one JSON entry an attempt, score = attempt
--   run-state:<run>               hash: name to JSON
-- Keys of our own, which the original ignores:
--   steps:<run>                   sorted set: names of steps in the order of insertion, after an empty name that
--                                 says that the index is there
--   steps-in-flight:<run>         sorted set: names of steps that somebody is expected to finish
--   runs, runs:workflow:<name>, runs:status:<status>, runs:status:<status>:<name>
--                                 sorted sets: run ids by createdAt
--   runs:idle                     sorted set: running runs with nothing in flight, by last activity
--   runs:pending-steps            sorted set: `<length of run id>:<step id>` of pending steps, by updatedAt
--   runs:indexed                  string: the runs of the original were added to these
--   workflow-names                sorted set: names of workflows that have runs
--
-- Keys that a script finds in the data are built here, not passed: for one server, or on a cluster a prefix with a hash
-- tag. Without, the scripts in `steps/` know one key each, of which they get what is below without using it.
-- There, runs:idle holds all running runs, and readers ask the steps what is in flight.

local P = ARGV[1]

local function key(kind, a, b)
  if b then
    return P .. ':' .. kind .. ':' .. a .. ':' .. b
  elseif a then
    return P .. ':' .. kind .. ':' .. a
  end
  return P .. ':' .. kind
end

local CONTROLS = { ['\b'] = '\\b', ['\f'] = '\\f', ['\n'] = '\\n', ['\r'] = '\\r', ['\t'] = '\\t' }

-- Text as a JSON string, byte for byte as JSON.stringify writes it. cjson would escape slashes.
local function quote(text)
  local quoted = string.gsub(text, '["\\]', '\\%0')
  return '"' .. string.gsub(quoted, '[%z\1-\31]', function(char)
    return CONTROLS[char] or string.format('\\u%04x', string.byte(char))
  end) .. '"'
end

-- An entry of the history is a flat JSON object without spaces, whose strings hold no bare quote: so a name between
-- quotes, with a comma before and a colon after, is found as text. It is never decoded: what is in it is the user's.

-- The first and last byte of a member of an entry, from its comma on.
local function locate(entry, name)
  local from, to = string.find(entry, ',"' .. name .. '":', 1, true)
  if not from then
    return nil
  end
  if string.sub(entry, to + 1, to + 1) ~= '"' then
    local _, stop = string.find(entry, '^[%w%.+-]*', to + 1)
    return from, stop
  end
  local at = to + 2
  while true do
    local stop = string.find(entry, '["\\]', at)
    if not stop then
      return nil
    end
    if string.sub(entry, stop, stop) == '"' then
      return from, stop
    end
    at = stop + 2
  end
end

-- An entry with a member replaced where it is, added at the end, or (without a value) removed.
local function with(entry, name, value)
  local from, to = locate(entry, name)
  local member = value and (',"' .. name .. '":' .. value) or ''
  if from then
    return string.sub(entry, 1, from - 1) .. member .. string.sub(entry, to + 1)
  end
  return string.sub(entry, 1, -2) .. member .. '}'
end

-- The moment that a member of an entry says, or nil.
local function moment_of(entry, name)
  local from, to = locate(entry, name)
  return from and tonumber(string.sub(entry, from + #name + 4, to))
end

-- Every change of a run is later than the one before it, whatever the clocks say. So the latest tells whether any was
-- made since a moment.
local function later(last, now)
  return string.format('%.0f', math.max(tonumber(now), (tonumber(last) or 0) + 1))
end

local function changed_since(last, now)
  return (tonumber(last) or 0) > tonumber(now)
end

-- Changes the status of the run KEYS[1], which has the status `from` since `last`, unless it has ended for good. ARGV[2]
-- is 1 if an earlier attempt of this very call may have happened; from `first` on there are further fields and values.
-- Returns whether it did, and the script's answer: 1 if the change is stored, 2 if the run's end is final, 3 if nobody
-- can tell whether the earlier attempt happened.
local function change_status(from, last, status, now, first)
  local repeated = ARGV[2] == '1'
  if from == 'completed' or from == 'cancelled' then
    -- Ending once more, as a message delivered twice does, changes nothing.
    return false, from == status and 1 or repeated and 3 or 2
  end
  if repeated then
    local ours = from == status
    for i = first, #ARGV, 2 do
      ours = ours and redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1]
    end
    if ours then
      return false, 1
    end
    if changed_since(last, now) then
      return false, 3
    end
  end
  redis.call('HSET', KEYS[1], 'status', status, 'updatedAt', later(last, now), unpack(ARGV, first))
  -- What an earlier attempt failed with is no error of a run that goes on or has completed.
  if status ~= 'failed' and ARGV[first] ~= 'error' and ARGV[first + 2] ~= 'error' then
    redis.call('HDEL', KEYS[1], 'error')
  end
  return true, 1
end

-- When an attempt reached a status.
local function stamped(entry, status, now)
  return status == 'pending' and entry or with(entry, status .. 'At', now)
end

-- The step behind the fields that `load` reads.
local function fresh_entry(step, attempt, status, now)
  local entry = '{"stepId":' .. quote(step.id) .. ',"stepName":' .. quote(step.name) .. ',"attemptCount":' .. attempt
    .. ',"status":"' .. status .. '"'
  if step.retries and tonumber(step.retries) then
    entry = entry .. ',"retries":' .. step.retries
  end
  if step.retry_delay then
    entry = entry .. ',"retryDelay":' .. quote(step.retry_delay)
  end
  return stamped(entry .. ',"createdAt":' .. now .. '}', status, now)
end

-- Stores the status of the current attempt in the history. `payload` is result or error, and `json` its JSON.
local function note(step, status, now, payload, json)
  local history = key('step-history', step.id)
  local entry = redis.call('ZRANGEBYSCORE', history, step.attempt, step.attempt, 'LIMIT', 0, 1)[1]
  if entry and locate(entry, 'status') then
    redis.call('ZREMRANGEBYSCORE', history, step.attempt, step.attempt)
    entry = with(entry, 'status', '"' .. status .. '"')
    for _, name in ipairs({ 'result', 'error' }) do
      if name ~= payload then
        entry = with(entry, name, nil)
      end
    end
  else
    -- What is there is not ours to repair, and stays beside the new entry.
    entry = fresh_entry(step, step.attempt, status, now)
  end
  -- An `undefined` is stored as no text, and left out here.
  if payload and json ~= '' then
    entry = with(entry, payload, quote(json))
  end
  redis.call('ZADD', history, step.attempt, stamped(entry, status, now))
end

-- Statuses of the documented service in the words of today's.
local TODAY = { done = 'succeeded', error = 'failed' }

-- A stored step, or nil. Its id is `<run>:<step>:<createdAt>`; the run ends where the stored `runId` says, which only
-- steps of a run id with a colon have, otherwise after `run_length` bytes. A step of the documented service has no id
-- until it gets `id` here.
local function load(step_key, run_length, id)
  local stored = redis.call('HMGET', step_key, 'stepId', 'status', 'attemptCount', 'retries', 'retryDelay', 'runId')
  if not stored[1] then
    if not stored[2] or not id then
      return nil
    end
    stored[1] = id
    redis.call('HSET', step_key, 'stepId', id, 'attemptCount', 1, 'createdAt', string.match(id, '%d+$'))
  end
  local base = string.match(stored[1], '^(.*):%d+$') or stored[1]
  local length = stored[6] and #stored[6] or run_length
  return {
    key = step_key,
    id = stored[1],
    status = TODAY[stored[2]] or stored[2] or 'pending',
    attempt = tonumber(stored[3]) or 1,
    retries = stored[4],
    retry_delay = stored[5],
    run = string.sub(base, 1, length),
    name = string.sub(base, length + 2),
  }
end

-- Puts a step into the index of its run. A run that the original made has no index and gets none: it would hide the
-- steps that are there already.
local function index_step(run, name)
  local index = key('steps', run)
  if redis.call('EXISTS', index) == 0 then
    if redis.call('EXISTS', key('run', run)) == 1 then
      return
    end
    redis.call('ZADD', index, 0, '')
  end
  redis.call('ZADD', index, 'NX', redis.call('ZCARD', index), name)
end

local IN_FLIGHT = { scheduled = true, running = true, suspended = true }

-- Whether the run waits for nobody, from its status and its steps in flight.
local function place_idle(run, now)
  if redis.call('HGET', key('run', run), 'status') == 'running'
    and redis.call('EXISTS', key('steps-in-flight', run)) == 0 then
    redis.call('ZADD', key('runs:idle'), now, run)
  else
    redis.call('ZREM', key('runs:idle'), run)
  end
end

-- Brings all indexes up to what a step has become.
local function place_step(step, status, now)
  index_step(step.run, step.name)
  local pending = #step.run .. ':' .. step.id
  if status == 'pending' then
    redis.call('ZADD', key('runs:pending-steps'), now, pending)
  else
    redis.call('ZREM', key('runs:pending-steps'), pending)
  end
  if IN_FLIGHT[status] then
    redis.call('ZADD', key('steps-in-flight', step.run), now, step.name)
  else
    redis.call('ZREM', key('steps-in-flight', step.run), step.name)
  end
  place_idle(step.run, now)
end

-- Stores a new status of the current attempt, with its result or error.
local function move(step, status, now, payload, json)
  redis.call('HSET', step.key, 'status', status, 'updatedAt', now)
  if payload then
    redis.call('HSET', step.key, payload, json)
    redis.call('HDEL', step.key, payload == 'result' and 'error' or 'result')
  end
  note(step, status, now, payload, json)
  place_step(step, status, now)
end

-- What comes of a claim of the step KEYS[1] of a run, by a function if it has one: missing, mismatch, taken, or claimed.
local function outcome_of_claim(step, run, func)
  if not step or step.run ~= run then
    return 'missing'
  elseif (redis.call('HGET', KEYS[1], 'rpcName') or nil) ~= func then
    return 'mismatch'
  end
  local is_free = step.status == 'failed' or step.status == 'pending' or step.status == 'scheduled'
  return is_free and 'claimed' or 'taken'
end

-- Begins the next attempt.
local function begin_attempt(step, status, now)
  local attempt = step.attempt + 1
  redis.call('HSET', step.key, 'status', status, 'attemptCount', attempt, 'updatedAt', now)
  redis.call('ZADD', key('step-history', step.id), attempt, fresh_entry(step, attempt, status, now))
  place_step(step, status, now)
end

-- Lists a run where its workflow, status and age say, and nowhere else. `old` is the status that it is listed under.
local function place_run(run, workflow, created, old, status)
  if old and old ~= status then
    redis.call('ZREM', key('runs:status', old), run)
    redis.call('ZREM', key('runs:status', old, workflow), run)
  end
  redis.call('ZADD', key('runs'), created, run)
  redis.call('ZADD', key('runs:workflow', workflow), created, run)
  redis.call('ZADD', key('runs:status', status), created, run)
  redis.call('ZADD', key('runs:status', status, workflow), created, run)
  redis.call('ZADD', key('workflow-names'), 0, workflow)
end

-- Takes a run from all lists.
local function forget_run(run, workflow)
  redis.call('ZREM', key('runs'), run)
  redis.call('ZREM', key('runs:idle'), run)
  local lists = { key('runs:workflow', workflow) }
  for _, status in ipairs({ 'running', 'suspended', 'completed', 'failed', 'cancelled' }) do
    lists[#lists + 1] = key('runs:status', status)
    lists[#lists + 1] = key('runs:status', status, workflow)
  end
  for _, list in ipairs(lists) do
    redis.call('ZREM', list, run)
  end
  if redis.call('EXISTS', lists[1]) == 0 then
    redis.call('ZREM', key('workflow-names'), workflow)
  end
end

