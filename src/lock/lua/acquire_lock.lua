-- Takes a lock if it is free, and if it is our turn.
--
-- KEYS[1]  the lock
-- KEYS[2]  counter of the fences
-- KEYS[3]  tombstone of this claim: empty if it was given up, or the number below which its attempts come too late
-- KEYS[4]  says that there are tombstones
-- KEYS[5]  queue of the waiting claims, by arrival (only for a fair attempt)
-- KEYS[6]  their leases, by expiry (only for a fair attempt)
-- ARGV[1]  the claim: what the token of this acquisition starts with
-- ARGV[2]  TTL in milliseconds
-- ARGV[3]  the highest fence that the caller has seen
-- ARGV[4]  the caller's time in microseconds, for users who may not ask the server for its own
-- ARGV[5]  number of this attempt: grows with every attempt of the claim, and with every repetition of one
-- ARGV[6]  how long earlier copies of this attempt may still be on their way, in milliseconds (0: there are none)
-- ARGV[7]  lease of a waiting claim in milliseconds (only for a fair attempt)
--
-- Returns the token if the lock is ours; 0 if the claim was given up, or attempted again, before this attempt arrived;
-- otherwise milliseconds after which another attempt may succeed (-1: unknown), and the holder's token if there is a
-- holder.

local claim = ARGV[1]
-- Nil as well if it is not a string.
local holder, counter, bar = unpack(redis.call('MGET', KEYS[1], KEYS[2], KEYS[3]))
if bar and (bar == '' or tonumber(ARGV[5]) < tonumber(bar)) then
  return 0
end
if ARGV[6] ~= '0' then
  -- An earlier copy would take the lock for nobody if it came after the release, or change its time left.
  redis.call('SET', KEYS[4], '', 'PX', ARGV[6])
  redis.call('SET', KEYS[3], ARGV[5], 'PX', ARGV[6])
end
local micros = tonumber(ARGV[4])
local time = redis.pcall('TIME')
if not time.err then
  micros = time[1] * 1000000 + time[2]
end
local now = math.floor(micros / 1000)

local first = true
local lead_lease = -1
if KEYS[5] then
  local queue, leases = KEYS[5], KEYS[6]
  redis.call('ZADD', leases, now + tonumber(ARGV[7]), claim)
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do
    redis.call('ZREM', queue, dead)
    redis.call('ZREM', leases, dead)
  end
  if not redis.call('ZSCORE', queue, claim) then
    local last = redis.call('ZREVRANGE', queue, 0, 0, 'WITHSCORES')
    redis.call('ZADD', queue, (tonumber(last[2]) or 0) + 1, claim)
  end
  -- They go with the last waiter; this is for a server whose clients all died.
  redis.call('PEXPIRE', queue, ARGV[7] * 20)
  redis.call('PEXPIRE', leases, ARGV[7] * 20)
  local head = redis.call('ZRANGE', queue, 0, 0)[1]
  first = head == claim
  if not first then
    lead_lease = math.max(0, tonumber(redis.call('ZSCORE', leases, head) or now) - now)
  end
end

if holder then
  -- Our own earlier attempt, whose reply was lost.
  if string.sub(holder, 1, #claim + 1) ~= claim .. ':' then
    return {redis.call('PTTL', KEYS[1]), holder}
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
elseif first then
  -- More than any before: also if the counter was lost (then the time says so), or the time was set back.
  local fence = math.max((tonumber(counter) or 0) + 1, micros, ARGV[3] + 1)
  local digits = string.format('%.0f', fence)
  holder = claim .. string.format(':%.0f:', now) .. digits
  if not redis.call('SET', KEYS[1], holder, 'NX', 'PX', ARGV[2]) then
    -- Something else than a string: this says so.
    return redis.pcall('GET', KEYS[1])
  end
  redis.call('SET', KEYS[2], digits)
else
  return {lead_lease}
end
if KEYS[5] then
  redis.call('ZREM', KEYS[5], claim)
  redis.call('ZREM', KEYS[6], claim)
end
return holder
