-- Forgets documents, as DEL does, for calls under a fence.
--
-- KEYS  the entries
--
-- Returns 1, whether they were there or not.

for _, entry in ipairs(KEYS) do
  redis.call('DEL', entry)
end
return 1
