-- Changes an execution, and gives all three keys of it the same time to live.
--
-- KEYS[1]  marker of the execution
-- KEYS[2]  hash of tasks under way
-- KEYS[3]  hash of results
-- ARGV[1]  what happens: begin, task or commit
-- ARGV[2]  TTL in milliseconds, 0 for none
-- ARGV[3]  task (task, commit)
-- ARGV[4]  result, JSON (commit)
-- ARGV[5]  1 if an earlier attempt of this very call may have happened (only for task)
--
-- Returns 1, or 0 if nobody can tell whether the earlier attempt happened: the task is not under way, and may have been
-- since.

if ARGV[5] == '1' and redis.call('HEXISTS', KEYS[2], ARGV[3]) == 0 then
  if redis.call('HEXISTS', KEYS[3], ARGV[3]) == 1 or redis.call('EXISTS', KEYS[1]) == 0 then
    return 0
  end
end
local reply
if ARGV[1] == 'begin' then
  reply = redis.pcall('SET', KEYS[1], 'true')
elseif ARGV[1] == 'task' then
  reply = redis.pcall('HSET', KEYS[2], ARGV[3], 'true')
else
  reply = redis.pcall('HSET', KEYS[3], ARGV[3], ARGV[4])
  if type(reply) ~= 'table' then
    reply = redis.pcall('HDEL', KEYS[2], ARGV[3])
  end
end
if type(reply) == 'table' and reply.err then
  return reply
end
if ARGV[2] ~= '0' then
  for i = 1, 3 do
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
  end
end
return 1
