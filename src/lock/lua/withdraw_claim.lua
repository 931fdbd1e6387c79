-- Gives a claim up, whether it was granted, waits, or is still on its way: an attempt that arrives later fails.
--
-- KEYS[1]  the lock
-- KEYS[2]  tombstone of the claim
-- KEYS[3]  queue of the waiting claims
-- KEYS[4]  their leases
-- KEYS[5]  says that there are tombstones
-- ARGV[1]  the claim
-- ARGV[2]  channel on which releases of this lock are announced
-- ARGV[3]  how long an attempt may still be on its way, in milliseconds
-- ARGV[4]  the channel as a sharded one, for servers and users that know these; empty outside of a cluster
--
-- Returns 1 if the lock was freed, otherwise 0.

local claim = ARGV[1]
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'table' then
  return holder
end
redis.call('SET', KEYS[5], '', 'PX', ARGV[3])
redis.call('SET', KEYS[2], '', 'PX', ARGV[3])
local waited = redis.call('ZREM', KEYS[3], claim)
redis.call('ZREM', KEYS[4], claim)
local ours = holder and string.sub(holder, 1, #claim + 1) == claim .. ':'
if ours then
  redis.call('DEL', KEYS[1])
end
if ours or (waited == 1 and not holder) then
  -- Not allowed for every user; those who wait then poll.
  if ARGV[4] == '' or type(redis.pcall('SPUBLISH', ARGV[4], '')) == 'table' then
    redis.pcall('PUBLISH', ARGV[2], '')
  end
end
return ours and 1 or 0
