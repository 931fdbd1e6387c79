-- Takes away the index of a run that never came into being.
--
-- KEYS[1]  index of the run
--
-- Returns how many keys were deleted.

if redis.call('ZCARD', KEYS[1]) == 1 and tonumber(redis.call('ZSCORE', KEYS[1], '') or -1) == 0 then
  return redis.call('DEL', KEYS[1])
end
return 0
