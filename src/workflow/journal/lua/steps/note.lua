-- Brings the history of a step up to what the step was seen to be. Every change comes with its moment, so each may be
-- noted several times, and by several at once.
--
-- KEYS[1]  history of the step
-- ARGV[2]  step id
-- ARGV[3]  step name
-- ARGV[4]  retries, or no text
-- ARGV[5]  retryDelay, or no text
-- ARGV[6…] for each change, the oldest first:
--          new if the step has just changed so, seen if it was found so, and perhaps noted by another already;
--          attempt; status; moment; when the attempt began, if there is no entry;
--          result, error, or no text; its JSON
--
-- Returns 1.

local STAMPS = { 'createdAt', 'scheduledAt', 'runningAt', 'suspendedAt', 'succeededAt', 'failedAt' }

local function latest(entry)
  local last = 0
  for _, name in ipairs(STAMPS) do
    last = math.max(last, moment_of(entry, name) or 0)
  end
  return last
end

local function member(entry, name)
  local from, to = locate(entry, name)
  return from and string.sub(entry, from + #name + 4, to)
end

local step = {
  id = ARGV[2],
  name = ARGV[3],
  retries = ARGV[4] ~= '' and ARGV[4],
  retry_delay = ARGV[5] ~= '' and ARGV[5],
}
for i = 6, #ARGV, 7 do
  local attempt, status, moment, payload, json = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 5], ARGV[i + 6]
  local stored
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], attempt, attempt)) do
    -- What is not ours to repair stays beside the new entry.
    stored = stored or locate(entry, 'status') and entry
  end
  local wanted = payload ~= '' and json ~= '' and quote(json) or nil
  local noted = stored and latest(stored) >= tonumber(moment)
  if stored and ARGV[i] == 'seen' then
    noted = noted or member(stored, 'status') == '"' .. status .. '"'
      and (payload == '' or member(stored, payload) == wanted)
  end
  if not noted then
    local entry = with(stored or fresh_entry(step, attempt, 'pending', ARGV[i + 4]), 'status', '"' .. status .. '"')
    for _, name in ipairs({ 'result', 'error' }) do
      if name ~= payload then
        entry = with(entry, name, nil)
      end
    end
    if wanted then
      entry = with(entry, payload, wanted)
    end
    if stored then
      redis.call('ZREM', KEYS[1], stored)
    end
    redis.call('ZADD', KEYS[1], attempt, stamped(entry, status, moment))
  end
end
return 1
