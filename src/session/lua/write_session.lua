-- Stores or deletes a session, unless somebody was faster.
--
-- KEYS[1]  the session
-- KEYS[2]  its record: microseconds of the last write, with "-" in front if that was a deletion
-- ARGV[1]  the session, JSON; empty to delete it
-- ARGV[2]  TTL of the session in milliseconds
-- ARGV[3]  TTL of the record in milliseconds, no less than that of the session
-- ARGV[4]  "any"; "version": only if the session has the version of ARGV[5]; "until": only if it was not written
--          later than ARGV[6]
-- ARGV[5]  a version: what the record says, 1 for a session without one, 0 for none
-- ARGV[6]  microseconds at which the write was asked for; empty for now
-- ARGV[7]  the caller's time in microseconds, for users who may not ask the server for its own
--
-- Returns the new version, as text; 0 if nothing was done.

local record = redis.pcall('GET', KEYS[2])
if type(record) == 'table' then
  return record
end
local exists = redis.call('EXISTS', KEYS[1]) == 1
local dead = record and string.sub(record, 1, 1) == '-'
local last = record and tonumber(dead and string.sub(record, 2) or record) or 0
if ARGV[4] == 'version' then
  local version = 0
  if exists then
    version = (record and not dead) and last or 1
  end
  if version ~= tonumber(ARGV[5]) then
    return '0'
  end
elseif ARGV[4] == 'until' and last > tonumber(ARGV[6]) and (exists or ARGV[1] ~= '') then
  return '0'
end
local moment = tonumber(ARGV[6])
if not moment then
  moment = tonumber(ARGV[7])
  local time = redis.pcall('TIME')
  if not time.err then
    moment = time[1] * 1000000 + time[2]
  end
  moment = math.max(moment, last + 1)
end
local digits = string.format('%.0f', math.max(moment, last))
if ARGV[1] == '' then
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[2], '-' .. digits, 'PX', ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('SET', KEYS[2], digits, 'PX', ARGV[3])
end
return digits
