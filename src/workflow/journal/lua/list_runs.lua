-- A page of the runs, newest first. What an index says is checked: an entry without its run, or of a run that has
-- another status by now (the original keeps no index), is put right and not listed.
--
-- KEYS[1]  the index that holds what is asked for
-- ARGV[2]  offset
-- ARGV[3]  limit
-- ARGV[4]  status that all of them have; empty for any
--
-- Returns the fields and values of each run, or only the id of one that cannot be read; nil if runs
-- were never listed.

if redis.call('EXISTS', key('runs'), key('runs:indexed')) == 0 then
  return false
end
local runs, limit, offset = {}, tonumber(ARGV[3]), tonumber(ARGV[2])
while #runs < limit do
  local ids = redis.call('ZREVRANGE', KEYS[1], offset, offset + limit - #runs - 1)
  if #ids == 0 then
    break
  end
  for _, id in ipairs(ids) do
    local run = key('run', id)
    local stored = redis.pcall('HMGET', run, 'id', 'status', 'workflow', 'createdAt')
    if stored.err then
      runs[#runs + 1] = { id }
      offset = offset + 1
    elseif not stored[1] then
      redis.call('ZREM', KEYS[1], id)
    elseif ARGV[4] ~= '' and stored[2] ~= ARGV[4] then
      redis.call('ZREM', KEYS[1], id)
      place_run(id, stored[3] or '', tonumber(stored[4]) or 0, ARGV[4], stored[2] or '')
    else
      runs[#runs + 1] = redis.call('HGETALL', run)
      offset = offset + 1
    end
  end
end
return runs
