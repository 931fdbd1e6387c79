-- Frees several locks, each if it is still held under its token: what release_lock.lua does, for releases that were
-- asked for at the same time.
--
-- KEYS[n]       a lock
-- ARGV[2n-1]    its token
-- ARGV[2n]      channel on which its releases are announced
--
-- Returns for each lock what release_lock.lua does, or -1 if it must be released alone.

local values = redis.call('MGET', unpack(KEYS))
local freed = {}
local answers = {}
for number, lock in ipairs(KEYS) do
  local holder = values[number]
  if not holder then
    -- Nobody holds it, or it is no string.
    answers[number] = -1
  elseif holder ~= ARGV[2 * number - 1] then
    answers[number] = holder
  elseif freed[lock] then
    answers[number] = 0
  else
    freed[lock] = true
    redis.call('DEL', lock)
    -- Not allowed for every user; those who wait then poll.
    redis.pcall('PUBLISH', ARGV[2 * number], '')
    answers[number] = 1
  end
end
return answers
