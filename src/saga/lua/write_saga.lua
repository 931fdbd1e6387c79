-- Writes the state of a saga and its index, if what is stored is as expected.
--
-- KEYS[1]  state
-- KEYS[2]  index: saga id to correlation id; none if it lies elsewhere and is not the business of this script
-- ARGV[1]  what must be stored: absent, version, either, or present, which is either without inserting
-- ARGV[2]  saga id
-- ARGV[3]  correlation id
-- ARGV[4]  expected version
-- ARGV[5]  new state
-- ARGV[6]  new state if none is stored; empty if it is the same
-- ARGV[7]  TTL in milliseconds, 0 for none
-- ARGV[8]  1 if an earlier attempt of this very write may have happened
-- ARGV[9]  '=' and the correlation id of an outdated index that may be overwritten; empty for none
--
-- Returns {outcome[, detail]}:
--   updated, inserted   it is stored
--   exists              there is a state already
--   missing             there is none
--   conflict, version   the stored version is another
--   indexed, id         the saga id belongs to that correlation id
--   opaque, state       the server cannot read the stored JSON

local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then
  return stored
end
local index = KEYS[2] and redis.pcall('GET', KEYS[2])
if type(index) == 'table' then
  return index
end
local expected, saga_id, correlation_id = ARGV[1], ARGV[2], ARGV[3]

local function write(outcome, json)
  local ttl = ARGV[7] ~= '0' and { 'PX', ARGV[7] } or {}
  redis.call('SET', KEYS[1], json, unpack(ttl))
  if KEYS[2] then
    redis.call('SET', KEYS[2], correlation_id, unpack(ttl))
  end
  return { outcome }
end

if index and index ~= correlation_id and '=' .. index ~= ARGV[9] then
  return { 'indexed', index }
end

local if_absent = ARGV[6] ~= '' and ARGV[6] or ARGV[5]
if not stored then
  if expected == 'version' or expected == 'present' then
    return { 'missing' }
  end
  return write('inserted', if_absent)
end
if ARGV[8] == '1' and (stored == ARGV[5] or stored == if_absent) then
  return { expected == 'absent' and 'inserted' or 'updated' }
end
if expected == 'absent' then
  return { 'exists' }
end

-- nil, or JSON's null: cjson tells a list from an object no better than Lua does, so a list is not read here.
local function absent(value)
  return value == nil or value == cjson.null
end
local readable, state = pcall(cjson.decode, stored)
if not readable or type(state) ~= 'table' or not stored:find('^%s*{') then
  return { 'opaque', stored }
end
local metadata = absent(state.metadata) and {} or state.metadata
-- Nothing in it: an object, or a list in disguise.
if type(metadata) ~= 'table' or (not absent(state.metadata) and next(metadata) == nil) then
  return { 'opaque', stored }
end
local version = absent(metadata.version) and 0 or metadata.version
if type(version) ~= 'number' or not (absent(metadata.sagaId) or type(metadata.sagaId) == 'string') then
  return { 'opaque', stored }
end
if not absent(metadata.sagaId) and metadata.sagaId ~= saga_id then
  return { expected == 'version' and 'missing' or 'exists' }
end
if version ~= tonumber(ARGV[4]) then
  return { 'conflict', string.format('%.17g', version) }
end
return write('updated', ARGV[5])
