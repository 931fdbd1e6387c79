-- Reads the steps of a run, from its index.
--
-- KEYS[1]  index of the run
-- ARGV[2]  run id
-- ARGV[3]  history to read the history of each step instead of its fields, otherwise fields
-- ARGV[4]  1 to read the steps named below, whether there is an index or not
-- ARGV[5]  how many fields are named next; 0 for all
-- ARGV[6…] fields, then names of steps
--
-- Returns, for each step, its name and its fields and values, or its fromStepName (or nothing) and a list of the
-- entries of its history. Without an index, nil if there is such a run.

local run = ARGV[2]
local wanted = { 'stepId', 'runId', 'fromStepName', 'status' }
local first_name = 6 + tonumber(ARGV[5])
for i = 6, first_name - 1 do
  wanted[#wanted + 1] = ARGV[i]
end
local names = {}
if ARGV[4] == '1' then
  for i = first_name, #ARGV do
    names[#names + 1] = ARGV[i]
  end
else
  names = redis.call('ZRANGE', KEYS[1], 0, -1)
  if #names == 0 and redis.call('EXISTS', key('run', run)) == 1 then
    return false
  end
end
local steps = {}
for _, name in ipairs(names) do
  local step = name ~= '' and key('step', run, name)
  if step then
    local stored = redis.call('HMGET', step, unpack(wanted))
    -- With a colon in it, the key may be of another run's step.
    if (stored[1] or TODAY[stored[4]]) and (not stored[2] or stored[2] == run) then
      local content
      if ARGV[3] == 'history' then
        local id = stored[1] or ''
        content = { stored[3] or '', redis.call('ZRANGE', key('step-history', id), 0, -1) }
      elseif ARGV[5] == '0' then
        content = redis.call('HGETALL', step)
      else
        content = {}
        for i = 5, #wanted do
          if stored[i] then
            content[#content + 1] = wanted[i]
            content[#content + 1] = stored[i]
          end
        end
      end
      steps[#steps + 1] = { name, content }
    end
  end
end
return steps
