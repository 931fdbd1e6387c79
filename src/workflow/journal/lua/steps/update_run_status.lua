-- Changes the status of an existing run, unless the run has ended for good.
--
-- KEYS[1]  hash of the run
-- ARGV[2]  1 if an earlier attempt of this very call may have happened
-- ARGV[3]  new status
-- ARGV[4]  updatedAt, milliseconds since 1970
-- ARGV[5…] further fields and values: output, error
--
-- Returns 1 if the change is stored, 0 if there is no such run, 2 if the run's end is final, 3 if nobody can tell whether
-- the earlier attempt happened: the run has changed since.

local stored = redis.call('HMGET', KEYS[1], 'id', 'status', 'updatedAt')
if not stored[1] then
  return 0
end
local _, answer = change_status(stored[2], stored[3], ARGV[3], ARGV[4], 5)
return answer
