-- Gives a task back, if its trainer still has it: the next one takes it, after a pause if there is one.
--
-- KEYS  fences    hash: task id -> the number under which it was claimed last
--       leases    sorted set: task id -> when its lease runs out
--       attempts  hash: task id -> how often it was claimed
--       pauses    sorted set: task id -> until when it is not to be taken, in Unix milliseconds
--       marks     hash: task id -> 'cancel' once it is to be cancelled: it is taken at once for that
-- ARGV  task id, number, '1' if this counts as an attempt that was broken off, the pause in
--       milliseconds

local fences, leases, attempts, pauses, marks = unpack(KEYS)
local id, number, counts, pause = unpack(ARGV)

if redis.call('HGET', fences, id) ~= number then return 0 end
redis.call('ZREM', leases, id)
redis.call('HDEL', fences, id)
if tonumber(pause) > 0 and redis.call('HGET', marks, id) ~= 'cancel' then
  local time = redis.call('TIME')
  redis.call('ZADD', pauses, time[1] * 1000 + math.floor(time[2] / 1000) + pause, id)
end
-- A trainer that ends in order has not failed at it.
if counts ~= '1' then redis.call('HINCRBY', attempts, id, -1) end
return 1
