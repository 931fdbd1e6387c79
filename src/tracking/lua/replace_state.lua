-- Stores the state of an execution over one that the caller has seen, keeps the set of active executions in step, and
-- announces the change.
--
-- KEYS[1]  the state
-- KEYS[2]  the set of active executions (only if it is written here)
-- ARGV[1]  the state, JSON; empty to delete it
-- ARGV[2]  "any"; "absent": only if there is none; otherwise the SHA-1 of the state that must be there
-- ARGV[3]  TTL in milliseconds
-- ARGV[4]  what becomes of the execution in the set: "add", "remove" or "keep"
-- ARGV[5]  its id
-- ARGV[6]  channel on which changes are announced; empty if the caller does that
-- ARGV[7]  1 if this may have happened already
-- ARGV[8]  the channel as a sharded one, for servers and users that know these; empty if it is none in this slot
--
-- Returns 1 if it was stored, otherwise the state that is there, or nil if there is none.

local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then
  return stored
end
if not (ARGV[7] == '1' and (stored or '') == ARGV[1]) then
  local expected = ARGV[2] == 'any'
    or (ARGV[2] == 'absent' and not stored)
    or (stored and redis.sha1hex(stored) == ARGV[2])
  if not expected then
    return stored
  end
end
if KEYS[2] and ARGV[4] ~= 'keep' then
  local kind = redis.call('TYPE', KEYS[2]).ok
  if kind ~= 'set' and kind ~= 'none' then
    return redis.pcall('SCARD', KEYS[2])
  end
  redis.call(ARGV[4] == 'add' and 'SADD' or 'SREM', KEYS[2], ARGV[5])
end
if ARGV[1] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
end
local change = ARGV[5] .. '\n' .. ARGV[1]
if ARGV[6] ~= '' and (ARGV[8] == '' or type(redis.pcall('SPUBLISH', ARGV[8], change)) == 'table') then
  redis.pcall('PUBLISH', ARGV[6], change)
end
return 1
