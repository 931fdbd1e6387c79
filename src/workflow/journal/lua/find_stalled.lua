-- Running runs with no step in flight and nothing done since. What the index says is checked.
--
-- KEYS[1]  index of idle runs
-- ARGV[2]  before, milliseconds since 1970
-- ARGV[3]  limit
--
-- Returns run ids, idle the longest first.

local found, limit = {}, tonumber(ARGV[3])
while #found < limit do
  local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[2], 'LIMIT', #found, limit - #found)
  if #ids == 0 then
    break
  end
  for _, id in ipairs(ids) do
    local stored = redis.call('HMGET', key('run', id), 'status', 'updatedAt')
    if stored[1] ~= 'running' then
      redis.call('ZREM', KEYS[1], id)
    elseif (tonumber(stored[2]) or 0) >= tonumber(ARGV[2]) then
      redis.call('ZADD', KEYS[1], stored[2], id)
    else
      found[#found + 1] = id
    end
  end
end
return found
