-- Says who holds a lock, and how many wait for it.
--
-- KEYS[1]  the lock
-- KEYS[2]  queue of the waiting claims
-- ARGV[1]  channel on which releases of this lock are announced
-- ARGV[2]  the same as a sharded channel; empty outside of a cluster
--
-- Returns the holder's token (or nil), the milliseconds left (-1: for ever, -2: not held), the length of the queue,
-- and how many connections listen for the release, on the channel and on the sharded one.

local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'table' then
  return holder
end
local listening = redis.pcall('PUBSUB', 'NUMSUB', ARGV[1])
local near = ARGV[2] ~= '' and redis.pcall('PUBSUB', 'SHARDNUMSUB', ARGV[2]) or {}
return {
  holder,
  redis.call('PTTL', KEYS[1]),
  redis.call('ZCARD', KEYS[2]),
  listening[2] or 0,
  near[2] or 0
}
