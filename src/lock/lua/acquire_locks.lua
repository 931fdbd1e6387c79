-- Takes several locks, each if it is free and each for itself: what acquire_lock.lua does, for attempts that were made
-- at the same time, are not fair and were not sent before.
--
-- KEYS[1]      counter of the fences
-- KEYS[2n]     a lock
-- KEYS[2n+1]   tombstone of its claim
-- ARGV[1]      the highest fence that the callers have seen
-- ARGV[2]      the caller's time in microseconds, for users who may not ask the server for its own
-- ARGV[2n+1]   the claim
-- ARGV[2n+2]   TTL in milliseconds
--
-- Returns for each lock what acquire_lock.lua does, or nil if this attempt must be made alone.

local values = redis.call('MGET', unpack(KEYS))
local micros = tonumber(ARGV[2])
local time = redis.pcall('TIME')
if not time.err then
  micros = time[1] * 1000000 + time[2]
end
local now = string.format(':%.0f:', math.floor(micros / 1000))
local fence = math.max((tonumber(values[1]) or 0) + 1, micros, ARGV[1] + 1)
local first = fence

local answers = {}
for place = 2, #KEYS, 2 do
  local number = place / 2
  local holder = values[place]
  local claim = ARGV[place + 1]
  local answer = false
  if values[place + 1] then
    -- Given up before it arrived, or attempted again: rare enough to be looked at alone.
    answer = false
  elseif not holder then
    local token = claim .. now .. string.format('%.0f', fence)
    if redis.call('SET', KEYS[place], token, 'NX', 'PX', ARGV[place + 2]) then
      answer = token
      fence = fence + 1
    else
      -- Taken by a neighbour just now, or something else than a string.
      local taken = redis.pcall('GET', KEYS[place])
      if type(taken) == 'string' then
        answer = {redis.call('PTTL', KEYS[place]), taken}
      end
    end
  elseif string.sub(holder, 1, #claim + 1) ~= claim .. ':' then
    answer = {redis.call('PTTL', KEYS[place]), holder}
  end
  answers[number] = answer
end
if fence > first then
  redis.call('SET', KEYS[1], string.format('%.0f', fence - 1))
end
return answers
