-- Before the state of a saga is written that lies in another slot: has its index lead to it, for at least as long as the
-- state will live.
--
-- Who changes an index says so in KEYS[2] until it is done. If several do, that says `*`: then nobody takes the index
-- away or shortens its life until that expires, since somebody else's state may need it.
--
-- KEYS[1]  index: saga id to correlation id
-- KEYS[2]  who is changing it
-- ARGV[1]  who is asking
-- ARGV[2]  correlation id
-- ARGV[3]  TTL of the state in milliseconds, 0 for none
-- ARGV[4]  1 to make the index if there is none
-- ARGV[5]  '=' and the correlation id of an outdated index that may be overwritten; empty for none
-- ARGV[6]  how long to remember who is changing it, in milliseconds
--
-- Returns {outcome[, detail …]}:
--   indexed, id           the saga id belongs to that correlation id
--   busy                  it is outdated, but somebody is changing it at the moment
--   absent                there is none, and none was made
--   claimed, left, own    it is there. Milliseconds that it had left, -1 without an end, -2 if it was made; 1 if the
--                         caller is now the one who is changing it

local index = redis.pcall('GET', KEYS[1])
if type(index) == 'table' then
  return index
end
local writer = redis.call('GET', KEYS[2])
local others = writer and writer ~= ARGV[1]
if index and index ~= ARGV[2] then
  if '=' .. index ~= ARGV[5] then
    return { 'indexed', index }
  end
  if others then
    return { 'busy' }
  end
end
local is_there = index == ARGV[2]
if not is_there and ARGV[4] ~= '1' then
  return { 'absent' }
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
local changes = ARGV[4] == '1' or left ~= (ttl == 0 and -1 or ttl)
if others then
  redis.call('SET', KEYS[2], '*', 'PX', ARGV[6])
elseif changes then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[6])
end
return { 'claimed', left, (changes and not others) and 1 or 0 }
