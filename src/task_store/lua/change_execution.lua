-- Changes an execution, and gives all three keys of it the same time to live.
--
-- KEYS[1]  marker of the execution
-- KEYS[2]  hash of tasks under way
-- KEYS[3]  hash of results
-- ARGV[1]  what happens: begin, task or commit
-- ARGV[2]  TTL in milliseconds, 0 for none
-- ARGV[3]  task (task, commit)
-- ARGV[4]  result, JSON (commit)
--
-- Returns 1.

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
