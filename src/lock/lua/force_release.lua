-- Frees a lock, whoever holds it, and announces it.
--
-- KEYS[1]  the lock
-- KEYS[2]  the answer to this very request, if it was answered before
-- KEYS[3]  token under which it was held when it was last released by force, for as long as its holder may ask
-- ARGV[1]  channel on which releases of this lock are announced
-- ARGV[2]  how long the answer is kept, in milliseconds
-- ARGV[3]  the channel as a sharded one, for servers and users that know these; empty outside of a cluster
--
-- Returns the token under which it was held, or nil.

local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'table' then
  return holder
end
local answer = redis.call('GET', KEYS[2])
if answer then
  return answer ~= '' and answer
end
local kept = math.max(tonumber(ARGV[2]), redis.call('PTTL', KEYS[1]))
if holder then
  redis.call('DEL', KEYS[1])
  if ARGV[3] == '' or type(redis.pcall('SPUBLISH', ARGV[3], '')) == 'table' then
    redis.pcall('PUBLISH', ARGV[1], '')
  end
end
-- After the deletion, as a server without room for more accepts it only then.
redis.pcall('SET', KEYS[2], holder or '', 'PX', ARGV[2])
if holder then
  redis.pcall('SET', KEYS[3], holder, 'PX', kept)
end
return holder
