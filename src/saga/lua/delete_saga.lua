-- Deletes a saga whose stored bytes are still those that the caller read.
--
-- KEYS[1]  state
-- KEYS[2]  says that this very request has deleted it, for a copy of the request
-- KEYS[3]  index: saga id to correlation id; none if it lies elsewhere and is not the business of this script
-- ARGV[1]  SHA-1 of the bytes that were read
-- ARGV[2]  correlation id
-- ARGV[3]  how long KEYS[2] is kept, in milliseconds
--
-- Returns 1 if this request has deleted it, 0 if the state is another by now.

local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then
  return stored
end
-- Also where the bytes are the same: somebody may have stored them again since.
if redis.call('GET', KEYS[2]) then
  return 1
end
if not stored or redis.sha1hex(stored) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
if KEYS[3] and redis.call('GET', KEYS[3]) == ARGV[2] then
  redis.call('DEL', KEYS[3])
end
-- After the deletion, as a server without room for more accepts it only then.
redis.pcall('SET', KEYS[2], '', 'PX', ARGV[3])
return 1
