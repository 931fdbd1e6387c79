-- A write under a fence. Before this text, the script that writes was made the function `write`. What is said here
-- of KEYS and ARGV stands behind its own, and is taken away before it runs.
--
-- KEYS[…]  for each record the highest fence seen so far
-- ARGV[…]  fence of this write, TTL of a fence in milliseconds, number of records
--
-- Returns what the script returns, or a status if nothing was written; `n` counts the records from 1:
--   stale n fence   somebody with this higher fence has written
--   corrupt n       what is stored is no fence
--   mistyped n      what is stored is no string

local records, ttl, fence = tonumber(table.remove(ARGV)), tonumber(table.remove(ARGV)), table.remove(ARGV)
local fences = {}
for n = records, 1, -1 do
  fences[n] = table.remove(KEYS)
end
for n, key in ipairs(fences) do
  local stored = redis.pcall('GET', key)
  if type(stored) == 'table' then
    return string.find(stored.err, 'WRONGTYPE', 1, true) and redis.status_reply('mistyped ' .. n) or stored
  end
  if stored then
    local seen = string.find(stored, '^[1-9]%d*$') and tonumber(stored)
    if not seen or seen > 9007199254740991 then
      return redis.status_reply('corrupt ' .. n)
    end
    if seen > tonumber(fence) then
      return redis.status_reply('stale ' .. n .. ' ' .. stored)
    end
  end
end

-- Answers of a script that found out that the record is another than meant. Anything else counts as a sign of life of
-- this holder, even if nothing had to be written.
local MISTAKEN = { missing = true, exists = true, indexed = true, opaque = true }
local answer = write()
if type(answer) ~= 'table' or not (answer.err or MISTAKEN[answer[1]]) then
  for _, key in ipairs(fences) do
    redis.call('SET', key, fence, 'PX', math.max(ttl, redis.call('PTTL', key)))
  end
end
return answer
