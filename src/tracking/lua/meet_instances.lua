-- Notes that an instance is there which grants locks by itself while it cannot reach the server, and finds out whether
-- another such instance was there at the same time.
--
-- KEYS[1]  hash: of each instance the milliseconds since 1970 of its first and its last call, with a space between; in
--          "several" the moment when two were found
-- ARGV[1]  the instance, or empty to note none
-- ARGV[2]  for how long one is remembered that does not call any more, in milliseconds
-- ARGV[3]  TTL of the hash in milliseconds
-- ARGV[4]  the caller's time in milliseconds, for users who may not ask the server for its own
--
-- Returns 1 if two were ever there at once, otherwise 0.

local fields = redis.pcall('HGETALL', KEYS[1])
if fields.err then
  return fields
end
local entries = {}
for index = 1, #fields, 2 do
  entries[fields[index]] = fields[index + 1]
end
local several = entries['several'] ~= nil
if ARGV[1] == '' then
  return several and 1 or 0
end
local now = tonumber(ARGV[4])
local time = redis.pcall('TIME')
if not time.err then
  now = math.floor(time[1] * 1000 + time[2] / 1000)
end
local first = tonumber(string.match(entries[ARGV[1]] or '', '^(%d+) ')) or now
for other, span in pairs(entries) do
  local last = tonumber(string.match(span, ' (%d+)$'))
  if last and other ~= ARGV[1] then
    -- One that ended before this one began is this one's predecessor, and no second.
    several = several or last > first
    if now - last > tonumber(ARGV[2]) then
      redis.call('HDEL', KEYS[1], other)
    end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %.0f', first, now))
if several and not entries['several'] then
  redis.call('HSET', KEYS[1], 'several', string.format('%.0f', now))
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return several and 1 or 0
