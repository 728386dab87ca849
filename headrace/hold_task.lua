-- Keeps a task's lease, and tells its trainer whether it was cancelled.
--
-- KEYS  leases  sorted set: task id -> when its lease runs out, in Unix milliseconds
--       fences  hash: task id -> the number under which it was claimed last
--       marks   hash: task id -> 'cancel' once it is to be cancelled, 'commit' once it cannot be
-- ARGV  task id, number, the lease in milliseconds, how many trainings there may be at once,
--       '1' if what the training made is about to go live
-- Returns held, lost or cancelled.

local leases, fences, marks = unpack(KEYS)
local id, number, lease, concurrency, commit = unpack(ARGV)

if redis.call('HGET', fences, id) ~= number then return 'lost' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = tonumber(redis.call('ZSCORE', leases, id) or 0)
-- It ran out, while Redis was away perhaps; another training may run in its place by now.
if ends <= now and redis.call('ZCOUNT', leases, now + 1, '+inf') >= tonumber(concurrency) then
  return 'lost'
end
redis.call('ZADD', leases, now + lease, id)
if redis.call('HGET', marks, id) == 'cancel' then return 'cancelled' end
if commit == '1' then redis.call('HSET', marks, id, 'commit') end
return 'held'
