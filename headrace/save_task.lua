-- Writes of a task, if its trainer still has it.
--
-- KEYS  fences  hash: task id -> the number under which it was claimed last
--       key     the task, or its log
-- ARGV  task id, number, value, seconds until it expires (0: never)
-- Returns whether it was written.

local id, number, value, ttl = unpack(ARGV)
if redis.call('HGET', KEYS[1], id) ~= number then return 0 end
if ttl == '0' then redis.call('SET', KEYS[2], value) else redis.call('SET', KEYS[2], value, 'EX', ttl) end
return 1
