-- Deletes a run with everything that belongs to it.
--
-- KEYS[1]  hash of the run
-- KEYS[2]  index of its steps
-- KEYS[3]  says that this very request has deleted it, for a copy of the request
-- ARGV[2]  run id
-- ARGV[3]  how long KEYS[3] is kept, in milliseconds
-- ARGV[4…] names of further steps
--
-- Returns 1, or 0 if there is no such run.

if redis.call('EXISTS', KEYS[3]) == 1 then
  return 1
end
local stored = redis.call('HMGET', KEYS[1], 'id', 'workflow')
if not stored[1] then
  return 0
end
local run = ARGV[2]
local names = redis.call('ZRANGE', KEYS[2], 0, -1)
for i = 4, #ARGV do
  names[#names + 1] = ARGV[i]
end
for _, name in ipairs(names) do
  local step = key('step', run, name)
  local ids = redis.call('HMGET', step, 'stepId', 'runId')
  -- With a colon in it, the key may be of another run's step.
  if name ~= '' and (not ids[2] or ids[2] == run) then
    if ids[1] then
      redis.call('DEL', key('step-history', ids[1]))
      redis.call('ZREM', key('runs:pending-steps'), #run .. ':' .. ids[1])
    end
    redis.call('DEL', step, key('step-lock', run, name))
  end
end
redis.call('DEL', KEYS[1], KEYS[2], key('run-state', run), key('steps-in-flight', run), key('lock', run))
forget_run(run, stored[2] or '')
-- After the deletion, as a server without room for more accepts it only then.
redis.pcall('SET', KEYS[3], '', 'PX', ARGV[3])
return 1
