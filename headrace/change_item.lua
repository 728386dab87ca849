-- Applies one message of the items topic to the catalogue, once.
--
-- KEYS  items    hash: item id -> the item as JSON
--       changes  sorted set: item id by the number of its last change; deleted ones too
--       marks    hash: "items/<partition>" -> "<topic id>:<last offset applied>"; sequence -> number
-- ARGV  mark's field, topic id, offset, item id, the item as JSON or '' to delete it
-- Returns 1 if the message had not been applied before, else 0.

local items, changes, marks = KEYS[1], KEYS[2], KEYS[3]
local field, topic_id, offset, item, value = unpack(ARGV)
local mark = redis.call('HGET', marks, field)
local id, last
if mark then id, last = string.match(mark, '^(.*):(%d+)$') end
if id == topic_id and tonumber(offset) <= tonumber(last) then return 0 end

redis.call('HSET', marks, field, topic_id .. ':' .. offset)
if value == '' then redis.call('HDEL', items, item) else redis.call('HSET', items, item, value) end
redis.call('ZADD', changes, redis.call('HINCRBY', marks, 'sequence', 1), item)
return 1
