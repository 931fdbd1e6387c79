-- Before the state of a saga is written that lies in another slot: has its index lead to it, for at least as long as the
-- state will live.
--
-- Who changes an index is in KEYS[2] until it is done. Of several at once, nobody takes the index away or shortens its
-- life: a state of the other may need it. So whoever comes turns the 1 of all others into a 0.
--
-- KEYS[1]  index: saga id to correlation id
-- KEYS[2]  hash of those who are changing it: 1 for one that was alone all the time, otherwise 0
-- ARGV[1]  who is asking
-- ARGV[2]  correlation id
-- ARGV[3]  TTL of the state in milliseconds, 0 for none
-- ARGV[4]  make, to make the index if there is none; find, to leave that; delete, if the state is to be deleted
-- ARGV[5]  '=' and the correlation id of an outdated index that may be overwritten; empty for none
-- ARGV[6]  how long to remember who is changing it, in milliseconds
--
-- Returns {outcome[, detail …]}:
--   indexed, id            the saga id belongs to that correlation id
--   busy                   it is outdated, but somebody is changing it at the moment
--   absent                 there is none, and none was made
--   claimed, left, joined  it is there. Milliseconds that it had left, -1 without an end, -2 if it was made; 1 if the
--                          caller is among those who are changing it, and has to settle that
--   announced              the same for a deletion, which looks at nothing

local index = redis.pcall('GET', KEYS[1])
if type(index) == 'table' then
  return index
end
local others = {}
for _, other in ipairs(redis.call('HKEYS', KEYS[2])) do
  if other ~= ARGV[1] then
    others[#others + 1] = other
  end
end
local is_there = index == ARGV[2]
if ARGV[4] ~= 'delete' then
  if index and not is_there then
    if '=' .. index ~= ARGV[5] then
      return { 'indexed', index }
    end
    if #others > 0 then
      return { 'busy' }
    end
  end
  if not is_there and ARGV[4] ~= 'make' then
    return { 'absent' }
  end
end

for _, other in ipairs(others) do
  redis.call('HSET', KEYS[2], other, 0)
end
local function join()
  redis.call('HSETNX', KEYS[2], ARGV[1], #others == 0 and 1 or 0)
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
end
if ARGV[4] == 'delete' then
  join()
  return { 'announced' }
end

local left = is_there and redis.call('PTTL', KEYS[1]) or -2
local ttl = tonumber(ARGV[3])
if not is_there then
  redis.call('SET', KEYS[1], ARGV[2])
end
if ttl == 0 then
  redis.call('PERSIST', KEYS[1])
elseif left == -2 or (left >= 0 and left < ttl) then
  redis.call('PEXPIRE', KEYS[1], ttl)
end
-- A new state needs the index even where it is as it should be.
local changes = ARGV[4] == 'make' or left ~= (ttl == 0 and -1 or ttl)
if changes then
  join()
end
return { 'claimed', left, changes and 1 or 0 }
