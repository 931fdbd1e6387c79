-- Says who holds a lock, and how many wait for it.
--
-- KEYS[1]  the lock
-- KEYS[2]  queue of the waiting claims
-- ARGV[1]  channel on which releases of this lock are announced
--
-- Returns the holder's token (or nil), the milliseconds left (-1: for ever, -2: not held), the length of the queue,
-- and how many connections listen for the release.

local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'table' then
  return holder
end
local listening = redis.pcall('PUBSUB', 'NUMSUB', ARGV[1])
return {
  holder,
  redis.call('PTTL', KEYS[1]),
  redis.call('ZCARD', KEYS[2]),
  listening[2] or 0
}
