-- Stores or deletes a session, unless somebody was faster.
--
-- KEYS[1]  the session
-- KEYS[2]  its record: microseconds of the last write and, behind a space, of the login that it goes back to; "-" in
--          front of a single number if the last write was a deletion. Then, for the latest writes, the oldest first,
--          ";", the name of the write, ":" and the version that it made
-- ARGV[1]  the session, JSON; empty to delete it
-- ARGV[2]  TTL of the session in milliseconds
-- ARGV[3]  TTL of the record in milliseconds, no less than that of the session
-- ARGV[4]  "any"; "version": only if the session has the version of ARGV[5]; "until": not if it was written later than
--          ARGV[6], or for a deletion, if somebody logged in later
-- ARGV[5]  a version: what the record says, 1 for a session without one, 0 for none
-- ARGV[6]  microseconds at which the write was asked for; empty for now
-- ARGV[7]  the caller's time in microseconds, for users who may not ask the server for its own
-- ARGV[8]  the name of this write, by which its second copy is recognised
-- ARGV[9]  if an earlier copy may have been carried out, the microseconds that may at most have passed since; otherwise
--          empty
--
-- Returns the new version, as text; 0 if nothing was done; "?" if the session was written so often since the earlier
-- copy that nobody can tell what became of that.

local NAMES = 8

local record = redis.pcall('GET', KEYS[2])
if type(record) == 'table' then
  return record
end
local dead, last, born, names = string.match(record or '', '^(%-?)(%d+) ?(%d*)(;?.*)$')
names = names or ''
local written = string.match(names, ';' .. ARGV[8] .. ':(%d+)')
if written then
  return written
end
local exists = redis.call('EXISTS', KEYS[1]) == 1
dead = dead == '-'
last = tonumber(last) or 0
born = tonumber(born) or last
local moment = tonumber(ARGV[6])
if not moment then
  moment = tonumber(ARGV[7])
  local time = redis.pcall('TIME')
  if not time.err then
    moment = time[1] * 1000000 + time[2]
  end
end
if select(2, string.gsub(names, ';', '')) >= NAMES then
  local oldest = tonumber(string.match(names, ':(%d+)'))
  if ARGV[9] ~= '' and oldest > moment - ARGV[9] then
    return '?'
  end
  names = string.gsub(names, '^;[^;]*', '')
end
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
if ARGV[6] == '' then
  moment = math.max(moment, last + 1)
end
local digits = string.format('%.0f', math.max(moment, last))
names = names .. ';' .. ARGV[8] .. ':' .. digits
if ARGV[1] == '' then
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[2], '-' .. digits .. names, 'PX', ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  -- Who names the version of a session goes on with it; everybody else begins a new one.
  local continued = ARGV[4] == 'version' and ARGV[5] ~= '0'
  local since = continued and string.format('%.0f', dead and 0 or born) or digits
  redis.call('SET', KEYS[2], digits .. ' ' .. since .. names, 'PX', ARGV[3])
end
return digits
