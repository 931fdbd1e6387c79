-- After the state of a saga was written that lies in another slot: the rest of what is to become of its index, unless
-- somebody else has been changing it at the same time.
--
-- KEYS[1]  index: saga id to correlation id
-- KEYS[2]  hash of those who are changing it
-- ARGV[1]  who is asking
-- ARGV[2]  correlation id
-- ARGV[3]  what is left to do: keep, drop, or the milliseconds that it shall live
--
-- Returns 1 if that was done or needless, 0 if the index stays as it is because of somebody else.

local alone = redis.pcall('HGET', KEYS[2], ARGV[1])
if type(alone) == 'table' then
  return alone
end
redis.call('HDEL', KEYS[2], ARGV[1])
if alone ~= '1' then
  return 0
end
if redis.call('GET', KEYS[1]) ~= ARGV[2] then
  return 1
end
if ARGV[3] == 'drop' then
  redis.call('DEL', KEYS[1])
elseif ARGV[3] ~= 'keep' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
