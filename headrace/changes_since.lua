-- Reads the items changed after a change's number, as they are now, oldest change first.
--
-- KEYS  items, changes: as in change_item.lua
-- ARGV  the number, how many items at the most
-- Returns of each item its last change's number, its id, and its JSON or '' for a deleted one.

local rows = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local found = {}
for i = 1, #rows, 2 do
  found[#found + 1] = rows[i + 1]
  found[#found + 1] = rows[i]
  found[#found + 1] = redis.call('HGET', KEYS[1], rows[i]) or ''
end
return found
