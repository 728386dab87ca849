-- Ends a task, if its trainer still has it.
--
-- KEYS  fences     hash: task id -> the number under which it was claimed last
--       leases, marks, attempts   of it nothing is kept
--       task       the task as JSON
--       open       sorted set: ids of the tasks that have not ended
--       active     hash: model id -> the id of its task that has not ended
--       trained    hash: model id -> when it was last trained, in Unix seconds
--       successes  hash: model id -> what its last success was, as JSON
--       kinds      hash: model id -> of which kind its versions are
--       deleted    set: ids of models that are deleted, or being deleted
--       refused    hash: model id -> the last number that was given when it was deleted
-- ARGV  task id, number, model id, the task as JSON, when the model was trained ('': it was not),
--       the success as JSON ('': it is none), the task's kind
-- Returns whether it was ended.

local fences, leases, marks, attempts, task, open, active, trained, successes, kinds,
  deleted, refused = unpack(KEYS)
local id, number, model, value, trained_at, success, kind = unpack(ARGV)

if redis.call('HGET', fences, id) ~= number then return 0 end
redis.call('SET', task, value)
redis.call('ZREM', open, id)
redis.call('ZREM', leases, id)
redis.call('HDEL', fences, id)
redis.call('HDEL', marks, id)
redis.call('HDEL', attempts, id)
if redis.call('HGET', active, model) == id then redis.call('HDEL', active, model) end
-- Of a model that was deleted meanwhile nothing is remembered, be it created again since.
local is_of_old = tonumber(number) <= tonumber(redis.call('HGET', refused, model) or '0')
if trained_at ~= '' and not is_of_old and redis.call('SISMEMBER', deleted, model) == 0 then
  redis.call('HSET', trained, model, trained_at)
  redis.call('HSET', kinds, model, kind)
end
if success ~= '' then redis.call('HSET', successes, model, success) end
return 1
