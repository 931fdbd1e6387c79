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
  if freed[lock] then
    answers[number] = 0
  elseif holder == ARGV[2 * number - 1] then
    freed[lock] = true
    redis.call('DEL', lock)
    -- Not allowed for every user; those who wait then poll.
    redis.pcall('PUBLISH', ARGV[2 * number], '')
    answers[number] = 1
  elseif holder then
    answers[number] = holder
  else
    -- Nobody holds it, or it is no string. The former is said here: alone, it would come after the attempts of its round.
    answers[number] = type(redis.pcall('GET', lock)) == 'table' and -1 or 0
  end
end
return answers
