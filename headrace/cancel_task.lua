-- Cancels a task that no trainer holds, or has its trainer do so.
--
-- KEYS  open      sorted set: ids of the tasks that have not ended
--       leases    sorted set: task id -> when its lease runs out, in Unix milliseconds
--       fences    hash: task id -> the number under which it was claimed last
--       marks     hash: task id -> 'cancel' once it is to be cancelled, 'commit' once it cannot be
--       attempts  hash: task id -> how often it was claimed
--       task      the task as JSON
--       active    hash: model id -> the id of its task that has not ended
--       held      hash: model id -> the id of its task that is held back
--       pauses    sorted set: task id -> until when it is not to be taken
-- ARGV  task id, model id, the task as JSON, cancelled
-- Returns cancelled, asked (its trainer does it in a moment), commit (it is too late) or ended.

local open, leases, fences, marks, attempts, task, active, held, pauses = unpack(KEYS)
local id, model, value = unpack(ARGV)

if redis.call('HGET', held, model) == id then
  redis.call('HDEL', held, model)
  redis.call('SET', task, value)
  return 'cancelled'
end
if not redis.call('ZSCORE', open, id) then return 'ended' end
if redis.call('HGET', marks, id) == 'commit' then return 'commit' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(redis.call('ZSCORE', leases, id) or 0) > now then
  redis.call('HSET', marks, id, 'cancel')
  return 'asked'
end
redis.call('SET', task, value)
redis.call('ZREM', open, id)
redis.call('ZREM', leases, id)
redis.call('ZREM', pauses, id)
redis.call('HDEL', fences, id)
redis.call('HDEL', marks, id)
redis.call('HDEL', attempts, id)
if redis.call('HGET', active, model) == id then redis.call('HDEL', active, model) end
return 'cancelled'
