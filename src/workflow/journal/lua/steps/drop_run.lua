-- Deletes the hash of a run.
--
-- KEYS[1]  hash of the run
--
-- Returns 1, or 0 if there is no such run.

if redis.call('HEXISTS', KEYS[1], 'id') == 0 then
  return 0
end
return redis.call('DEL', KEYS[1])
