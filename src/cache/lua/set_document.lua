-- Caches a document, unless a newer one is there.
--
-- KEYS[1]  the entry
-- ARGV[1]  the document, JSON
-- ARGV[2]  TTL in milliseconds
-- ARGV[3]  updatedAt of the document; empty if it has none
--
-- Returns 1 if it was stored, 0 if a newer one stays.

if ARGV[3] ~= '' then
  local stored = redis.pcall('GET', KEYS[1])
  if type(stored) == 'table' then
    return stored
  end
  if stored then
    local readable, document = pcall(cjson.decode, stored)
    if readable and type(document) == 'table' and type(document.updatedAt) == 'number' then
      if document.updatedAt > tonumber(ARGV[3]) then
        return 0
      end
    end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
