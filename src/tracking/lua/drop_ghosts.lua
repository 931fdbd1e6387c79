-- Takes executions without a state out of the set of active ones.
--
-- KEYS[1]    the set
-- KEYS[2…]   the states
-- ARGV[1…]   the ids, in the same order
--
-- Returns how many were taken out.

local dropped = 0
for index, id in ipairs(ARGV) do
  if redis.call('TYPE', KEYS[index + 1]).ok ~= 'string' then
    dropped = dropped + redis.call('SREM', KEYS[1], id)
  end
end
return dropped
