-- After the state of a saga was written that lies in another slot: the rest of what is to become of its index, unless
-- somebody else has begun to change it since.
--
-- KEYS[1]  index: saga id to correlation id
-- KEYS[2]  who is changing it
-- ARGV[1]  who is asking
-- ARGV[2]  correlation id
-- ARGV[3]  what is left to do: keep, drop, or the milliseconds that it shall live
--
-- Returns 1 if that was done, otherwise 0.

local writer = redis.pcall('GET', KEYS[2])
if type(writer) == 'table' then
  return writer
end
if writer ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2])
if redis.call('GET', KEYS[1]) ~= ARGV[2] then
  return 0
end
if ARGV[3] == 'drop' then
  redis.call('DEL', KEYS[1])
elseif ARGV[3] ~= 'keep' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
