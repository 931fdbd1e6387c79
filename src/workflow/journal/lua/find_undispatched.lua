-- Steps of running runs that have been pending since. What the index says is checked: the steps of a run that does
-- not run leave it, and come back with the run.
--
-- KEYS[1]  index of pending steps
-- ARGV[2]  before, milliseconds since 1970
-- ARGV[3]  limit
--
-- Returns run id and step id of each, pending the longest first.

local found, limit = {}, tonumber(ARGV[3])
while #found < limit do
  local range = { '-inf', '(' .. ARGV[2], 'LIMIT', #found, limit - #found }
  local members = redis.call('ZRANGEBYSCORE', KEYS[1], unpack(range))
  if #members == 0 then
    break
  end
  for _, member in ipairs(members) do
    local length, id = string.match(member, '^(%d+):(.*)$')
    local run = string.sub(id, 1, tonumber(length))
    local step = key('step', (string.gsub(id, ':%d+$', '')))
    local stored = redis.call('HMGET', step, 'stepId', 'status')
    if stored[1] == id and stored[2] == 'pending' and redis.call('HGET', key('run', run), 'status') == 'running' then
      found[#found + 1] = { run, id }
    else
      redis.call('ZREM', KEYS[1], member)
    end
  end
end
return found
