-- Takes several locks, each if it is free and each for itself: what acquire_lock.lua does, for attempts that were made
-- at the same time by one claimant, with one TTL, and are not fair and were not sent before.
--
-- KEYS[1]      counter of the fences
-- KEYS[2]      says that there are tombstones
-- KEYS[2+n]    a lock
-- KEYS[2+N+n]  tombstone of its claim, of all N locks or of none
-- ARGV[1]      the highest fence that the callers have seen
-- ARGV[2]      the caller's time in microseconds, for users who may not ask the server for its own
-- ARGV[3]      TTL of all locks in milliseconds
-- ARGV[4]      what all claims end with
-- ARGV[4+n]    what a claim begins with
--
-- Returns nil if tombstones must be given; otherwise the time in milliseconds that is in the tokens, the fence of the
-- first lock that is granted (each further one has the next), and unless all are granted for each lock: 1 if it is;
-- milliseconds after which another attempt may succeed (-1: unknown) and the holder's token, if there is a holder; or nil
-- if this attempt must be made alone.

local call, format = redis.call, string.format
local count = #ARGV - 4
local known = call('MGET', KEYS[1], KEYS[2])
local barred = {}
if #KEYS > 2 + count then
  barred = call('MGET', unpack(KEYS, 3 + count))
elseif known[2] then
  return false
end
local micros = tonumber(ARGV[2])
local time = redis.pcall('TIME')
if not time.err then
  micros = time[1] * 1000000 + time[2]
end
local now = math.floor(micros / 1000)
local fence = math.max((tonumber(known[1]) or 0) + 1, micros, ARGV[1] + 1)

-- Written in two parts, of which only the second changes: digits of a number this large are slow to make.
local low = fence % 1000000000
if low + count > 999999999 then
  fence = fence - low + 1000000000
  low = 0
end
local first, high = low, (fence - low) / 1000000000
local digits = high > 0 and '%09d' or '%d'
local ending = ARGV[4] .. format(':%.0f:', now) .. (high > 0 and format('%.0f', high) or '')

local ttl = ARGV[3]
local others
for number = 1, count do
  local lock = KEYS[2 + number]
  -- Given up before it arrived, or attempted again: rare enough to be looked at alone.
  local answer = false
  if not barred[number] then
    if call('SET', lock, ARGV[4 + number] .. ending .. format(digits, low), 'NX', 'PX', ttl) then
      answer = 1
      low = low + 1
    else
      local holder = redis.pcall('GET', lock)
      -- Something else than a string says so alone.
      if type(holder) == 'string' then
        answer = {call('PTTL', lock), holder}
      end
    end
  end
  if answer ~= 1 then
    others = others or {}
    others[number] = answer
  end
end
if low > first then
  call('SET', KEYS[1], format('%.0f', fence + low - first - 1))
end
local answers = {now, fence}
if others then
  for number = 1, count do
    local other = others[number]
    answers[2 + number] = other == nil and 1 or other
  end
end
return answers
