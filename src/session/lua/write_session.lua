-- Stores or deletes a session, unless somebody was faster.
--
-- KEYS[1]  the session
-- KEYS[2]  its record: microseconds of the last write and, behind a space, of the login that it goes back to; "-" in
--          front of a single number if the last write was a deletion. Then, for the latest writes, the oldest first,
--          ";", the name of the write, ":" and the version that it made, or 0 if it came to nothing for good
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
-- ARGV[10…]  names of earlier writes that this one takes the place of, and that may have been carried out
--
-- Returns the new version, as text; 0 if nothing was done; "?" if nobody can tell what became of the earlier copy, or
-- whether somebody else wrote after it was asked for.

local NAMES = 8

local record = redis.pcall('GET', KEYS[2])
if type(record) == 'table' then
  return record
end
local dead, last, born, names = string.match(record or '', '^(%-?)(%d+) ?(%d*)(;?.*)$')
names = names or ''
local function version_by(name)
  return string.match(names, ';' .. name .. ':(%d+)')
end
local written = version_by(ARGV[8])
if written then
  -- It may have been given more time since, by whoever writes it again.
  if written == last and dead == '' and redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
  end
  return written
end
-- Nobody has written since one of those that this takes the place of.
local continued = false
for n = 10, #ARGV do
  continued = continued or (last and dead == '' and version_by(ARGV[n]) == last)
end
local exists = redis.call('EXISTS', KEYS[1]) == 1
dead = dead == '-'
last = tonumber(last) or 0
born = tonumber(born) or last
-- A later write that goes back to a login before the logout does not save the session.
local later = ARGV[1] == '' and (exists and not dead and born or 0) or last
local moment = tonumber(ARGV[6])
if not moment then
  moment = tonumber(ARGV[7])
  local time = redis.pcall('TIME')
  if not time.err then
    moment = time[1] * 1000000 + time[2]
  end
end
local since = ARGV[9] ~= '' and moment - ARGV[9]
local count = select(2, string.gsub(names, ';', ''))
if count >= NAMES and since and tonumber(string.match(names, ':(%d+)')) > since then
  return '?'
end
for _ = NAMES, count do
  names = string.gsub(names, '^;[^;]*', '')
end
local refused
if ARGV[4] == 'version' and ARGV[5] ~= '0' then
  local version = exists and ((last > 0 and not dead) and last or 1) or 0
  refused = version ~= tonumber(ARGV[5])
else
  refused = ARGV[4] == 'version' and exists or ARGV[6] ~= '' and later > moment
  -- It would undo what came after it was asked for.
  if ARGV[6] == '' and since and later > since then
    return '?'
  end
end
if refused and not continued then
  if ARGV[6] ~= '' and record then
    -- It will not be written again, and must not be by a copy that comes late.
    redis.call('SET', KEYS[2], string.match(record, '^[^;]*') .. names .. ';' .. ARGV[8] .. ':0', 'PX', ARGV[3])
  end
  return '0'
end
local digits = string.format('%.0f', math.max(moment, last + 1))
for n = 10, #ARGV do
  if not version_by(ARGV[n]) then
    names = names .. ';' .. ARGV[n] .. ':' .. digits
  end
end
names = names .. ';' .. ARGV[8] .. ':' .. digits
if ARGV[1] == '' then
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[2], '-' .. digits .. names, 'PX', ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  -- Who names the version of a session goes on with it; everybody else begins a new one.
  local goes_on = ARGV[4] == 'version' and ARGV[5] ~= '0'
  local login = goes_on and string.format('%.0f', dead and 0 or born) or digits
  redis.call('SET', KEYS[2], digits .. ' ' .. login .. names, 'PX', ARGV[3])
end
return digits
