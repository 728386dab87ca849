-- Leases the oldest open task that no trainer holds and that is not in a pause, if there may be one more training.
--
-- KEYS  open      sorted set: ids of the tasks that have not ended, by the time they were made
--       leases    sorted set: task id -> when its lease runs out, in Unix milliseconds
--       fences    hash: task id -> the number under which it was claimed last; whoever writes of the
--                 task shows the number, so that a trainer that hung cannot write any more
--       fence     the last number given
--       attempts  hash: task id -> how often it was claimed
--       pauses    sorted set: task id -> until when it is not to be taken, in Unix milliseconds
-- ARGV  the lease in milliseconds, how many trainings there may be at once
-- Returns the task's id, its number, and which attempt it is; nothing when there is none to take.

local open, leases, fences, fence, attempts, pauses = unpack(KEYS)
local lease, concurrency = unpack(ARGV)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('ZCOUNT', leases, now + 1, '+inf') >= tonumber(concurrency) then return {} end
for _, id in ipairs(redis.call('ZRANGE', open, 0, -1)) do
  local ends = tonumber(redis.call('ZSCORE', leases, id) or 0)
  local pauses_until = tonumber(redis.call('ZSCORE', pauses, id) or 0)
  if math.max(ends, pauses_until) <= now then
    redis.call('ZREM', pauses, id)
    local number = redis.call('INCR', fence)
    redis.call('HSET', fences, id, number)
    redis.call('ZADD', leases, now + lease, id)
    return {id, number, redis.call('HINCRBY', attempts, id, 1)}
  end
end
return {}
