-- Puts a step into the index of its run.
--
-- KEYS[1]  index of the run
-- ARGV[2]  step name
-- ARGV[3]  1 to make the index if there is none: not for a run that the original made, whose other steps it would hide
--
-- Returns 1, or 0 if there is no index.

if redis.call('EXISTS', KEYS[1]) == 0 then
  if ARGV[3] ~= '1' then
    return 0
  end
  redis.call('ZADD', KEYS[1], 0, '')
end
redis.call('ZADD', KEYS[1], 'NX', redis.call('ZCARD', KEYS[1]), ARGV[2])
return 1
