-- Frees several locks, each if it is still held under its token: what release_lock.lua does, for releases that were
-- asked for at the same time.
--
-- KEYS[n]    a lock; none is there twice
-- ARGV[1]    what the channels begin with on which releases are announced; the lock follows
-- ARGV[1+n]  its token
--
-- Returns 1 if all were held and are free now; otherwise for each lock what release_lock.lua does, or -1 if it must be
-- released alone.

local values = redis.call('MGET', unpack(KEYS))
local others = 0
for number = 1, #KEYS do
  if values[number] ~= ARGV[1 + number] then
    others = others + 1
  end
end
local ours, answers = KEYS, 1
if others > 0 then
  ours, answers = {}, {}
  for number, lock in ipairs(KEYS) do
    local holder = values[number]
    if holder == ARGV[1 + number] then
      ours[#ours + 1] = lock
      answers[number] = 1
    elseif holder then
      answers[number] = holder
    else
      -- Nobody holds it, or it is no string. The former is said here: alone, it would come after the attempts of its
      -- round.
      answers[number] = type(redis.pcall('GET', lock)) == 'table' and -1 or 0
    end
  end
end
if #ours > 0 then
  redis.call('DEL', unpack(ours))
  for _, lock in ipairs(ours) do
    -- Not allowed for every user; those who wait then poll.
    redis.pcall('PUBLISH', ARGV[1] .. lock, '')
  end
end
return answers
