-- Ends what a caller holds the lease of, all at once: whoever sees that it has ended may queue it anew.
--
-- KEYS  lease      string: its holder
--       task       the task as JSON
--       cancelled  set: ids of the tasks whose end was asked for
--       active     hash: what a task writes to -> the id of the one that has not ended
-- ARGV  the lease's holder, the task's id, the task as JSON, what it writes to
-- Returns whether it was ended.

local lease, task, cancelled, active = unpack(KEYS)
local holder, id, value, target = unpack(ARGV)

if redis.call('GET', lease) ~= holder then return 0 end
redis.call('SET', task, value)
redis.call('SREM', cancelled, id)
if redis.call('HGET', active, target) == id then redis.call('HDEL', active, target) end
redis.call('DEL', lease)
return 1
