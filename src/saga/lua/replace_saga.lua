-- Writes a saga whose stored bytes are still those that the caller read.
--
-- KEYS[1]  state
-- KEYS[2]  index: saga id to correlation id; none if it lies elsewhere and is not the business of this script
-- ARGV[1]  SHA-1 of the bytes that were read
-- ARGV[2]  correlation id
-- ARGV[3]  new state
-- ARGV[4]  TTL in milliseconds, 0 for none
-- ARGV[5]  1 if an earlier attempt of this very write may have happened
--
-- Returns 1 if it happened, 0 if the state is another by now.

local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then
  return stored
end
if ARGV[5] == '1' and stored == ARGV[3] then
  return 1
end
if not stored or redis.sha1hex(stored) ~= ARGV[1] then
  return 0
end
local ttl = ARGV[4] ~= '0' and { 'PX', ARGV[4] } or {}
redis.call('SET', KEYS[1], ARGV[3], unpack(ttl))
if KEYS[2] then
  redis.call('SET', KEYS[2], ARGV[2], unpack(ttl))
end
return 1
