-- Stores or deletes a session, unless somebody was faster.
--
-- KEYS[1]  the session
-- KEYS[2]  its record: microseconds of the last write and, behind a space, of the login that it goes back to; "-" in
--          front of a single number if the last write was a deletion
-- ARGV[1]  the session, JSON; empty to delete it
-- ARGV[2]  TTL of the session in milliseconds
-- ARGV[3]  TTL of the record in milliseconds, no less than that of the session
-- ARGV[4]  "any"; "version": only if the session has the version of ARGV[5]; "until": not if it was written later than
--          ARGV[6], or for a deletion, if somebody logged in later
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
local dead, last, born = string.match(record or '', '^(%-?)(%d+) ?(%d*)$')
dead = dead == '-'
last = tonumber(last) or 0
born = tonumber(born) or last
if ARGV[4] == 'version' then
  local version = 0
  if exists then
    version = (last > 0 and not dead) and last or 1
  end
  if version ~= tonumber(ARGV[5]) then
    return '0'
  end
elseif ARGV[4] == 'until' then
  -- A later write that goes back to a login before the logout does not save the session.
  local later = ARGV[1] == '' and (exists and not dead and born or 0) or last
  if later > tonumber(ARGV[6]) then
    return '0'
  end
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
  -- Who names the version of a session goes on with it; everybody else begins a new one.
  local continued = ARGV[4] == 'version' and ARGV[5] ~= '0'
  local since = continued and string.format('%.0f', dead and 0 or born) or digits
  redis.call('SET', KEYS[2], digits .. ' ' .. since, 'PX', ARGV[3])
end
return digits
