-- Lists runs that are not listed, as those that the original made.
--
-- KEYS[1]  index of all runs
-- ARGV[2…] run ids
--
-- Returns how many were not listed before.

local found = 0
for i = 2, #ARGV do
  local run = ARGV[i]
  local stored = redis.pcall('HMGET', key('run', run), 'id', 'status', 'workflow', 'createdAt')
  -- What is no hash is no run.
  if stored[1] == run and not redis.call('ZSCORE', KEYS[1], run) then
    found = found + 1
    local created = tonumber(stored[4]) or 0
    place_run(run, stored[3] or '', created, nil, stored[2] or '')
  end
end
return found
