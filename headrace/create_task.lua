-- Queues a task, unless its key is known or something stands in the way.
--
-- KEYS  by key   the task's id under its idempotency key
--       active   hash: model id -> the id of its task that has not ended
--       task     the task as JSON
--       newest   sorted set: task ids by the time they were made
--       open     sorted set: ids of the tasks that have not ended
--       deleted  set: ids of models that are deleted, or being deleted
--       trained  hash: model id -> when it was last trained, in Unix seconds
--       kinds    hash: model id -> of which kind its versions are
-- ARGV  task id, model id, the task as JSON, the time in Unix seconds, seconds that must lie between
--       two trainings, how many tasks are kept, what the keys of a task and its log begin with, the
--       task's kind
-- Returns what came of it and more about it: made or known or busy, and a task's id; deleted, '';
-- kind, and that of the model's versions; soon, and the seconds to wait.

local by_key, active, task, newest, open, deleted, trained, kinds = unpack(KEYS)
local id, model, value, now, interval, kept, stem, kind = unpack(ARGV)
local WEEK = 7 * 24 * 3600  -- seconds for which a key is remembered

local known = redis.call('GET', by_key)
-- Of the tasks that are no longer kept the keys are forgotten, too.
if known and redis.call('EXISTS', stem .. ':task:' .. known) == 1 then return {'known', known} end
if redis.call('SISMEMBER', deleted, model) == 1 then return {'deleted', ''} end
local own = redis.call('HGET', kinds, model)
if own and own ~= kind then return {'kind', own} end
local running = redis.call('HGET', active, model)
if running then return {'busy', running} end
local last = redis.call('HGET', trained, model)
if last then
  -- Clocks differ: nobody waits for longer than the interval.
  local wait = math.min(tonumber(last) - tonumber(now), 0) + tonumber(interval)
  if wait > 0 then return {'soon', tostring(math.ceil(wait))} end
end

redis.call('SET', by_key, id, 'EX', WEEK)
redis.call('HSET', active, model, id)
redis.call('SET', task, value)
redis.call('ZADD', newest, now, id)
redis.call('ZADD', open, now, id)
for _, old in ipairs(redis.call('ZRANGE', newest, 0, -1 - tonumber(kept))) do
  if not redis.call('ZSCORE', open, old) then
    redis.call('ZREM', newest, old)
    redis.call('DEL', stem .. ':task:' .. old, stem .. ':log:' .. old)
  end
end
return {'made', id}
