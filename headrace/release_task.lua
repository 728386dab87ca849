-- Gives a task back, if its trainer still has it: the next one takes it at once.
--
-- KEYS  fences    hash: task id -> the number under which it was claimed last
--       leases    sorted set: task id -> when its lease runs out
--       attempts  hash: task id -> how often it was claimed
-- ARGV  task id, number, '1' if this counts as an attempt that was broken off

local fences, leases, attempts = unpack(KEYS)
local id, number, counts = unpack(ARGV)

if redis.call('HGET', fences, id) ~= number then return 0 end
redis.call('ZREM', leases, id)
redis.call('HDEL', fences, id)
-- A trainer that ends in order has not failed at it.
if counts ~= '1' then redis.call('HINCRBY', attempts, id, -1) end
return 1
