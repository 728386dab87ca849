-- Applies one message of the items topic to the catalogue, once, unless a newer one of the same item
-- has been applied: servers apply their own changes at once, workers all of them, in any order.
--
-- KEYS  items    hash: item id -> the item as JSON
--       changes  sorted set: item id by the number of its last change; deleted ones too
--       deleted  sorted set: deleted item id by the number of that change
--       marks    hash: "<partition>/<item id>" -> "<topic's number>:<last offset applied>";
--                "topic:<topic id>" -> the topic's number; topics, sequence -> the last number given
-- ARGV  topic id, partition, offset, item id, the item as JSON or '' to delete it
-- Returns 1 if the message was applied, else 0.

local items, changes, deleted, marks = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local topic_id, partition, offset, item, value = unpack(ARGV)

-- A topic made anew has the next number. What a worker still has in hand of the one before comes too
-- late: the new one may have said something else by now.
local topic = tonumber(redis.call('HGET', marks, 'topic:' .. topic_id))
if not topic then
  topic = redis.call('HINCRBY', marks, 'topics', 1)
  redis.call('HSET', marks, 'topic:' .. topic_id, topic)
elseif topic < tonumber(redis.call('HGET', marks, 'topics')) then
  return 0
end

local field = partition .. '/' .. item
local mark = redis.call('HGET', marks, field)
if mark then
  local of, last = string.match(mark, '^(%d+):(%d+)$')
  if tonumber(of) == topic and tonumber(offset) <= tonumber(last) then return 0 end
end
redis.call('HSET', marks, field, topic .. ':' .. offset)

local number = redis.call('HINCRBY', marks, 'sequence', 1)
redis.call('ZADD', changes, number, item)
if value == '' then
  redis.call('HDEL', items, item)
  redis.call('ZADD', deleted, number, item)
else
  redis.call('HSET', items, item, value)
  redis.call('ZREM', deleted, item)
end
return 1
