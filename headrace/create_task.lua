-- Queues a task, unless its key is known or its model has one queued already.
--
-- KEYS  by key   the task's id under its idempotency key
--       queued   the id of the model's task that has not started
--       task     the task as JSON
--       newest   sorted set: task ids by the time they were made
--       open     sorted set: ids of the tasks that have not ended
-- ARGV  task id, the task as JSON, the time in Unix seconds
-- Returns the id of the task that stands for the request.

local by_key, queued, task, newest, open = unpack(KEYS)
local id, value, now = unpack(ARGV)
local WEEK = 7 * 24 * 3600  -- seconds for which a key is remembered

local known = redis.call('GET', by_key) or redis.call('GET', queued)
if not known then
  redis.call('SET', queued, id)
  redis.call('SET', task, value)
  redis.call('ZADD', newest, now, id)
  redis.call('ZADD', open, now, id)
end
redis.call('SET', by_key, known or id, 'EX', WEEK)
return known or id
