-- Frees a lock, whoever holds it, and announces it.
--
-- KEYS[1]  the lock
-- ARGV[1]  channel on which releases of this lock are announced
--
-- Returns the token under which it was held, or nil.

local holder = redis.pcall('GET', KEYS[1])
if holder and type(holder) ~= 'table' then
  redis.call('DEL', KEYS[1])
  redis.pcall('PUBLISH', ARGV[1], '')
end
return holder
