-- Queues a task, unless its key is known or something stands in the way; one whose model is busy, or
-- was trained too lately, is held back until it can be queued, if that is asked for.
--
-- KEYS  by key   the task's id under its idempotency key
--       active   hash: model id -> the id of its task that has not ended
--       task     the task as JSON
--       newest   sorted set: task ids by the time they were made
--       open     sorted set: ids of the tasks that can be run and have not ended
--       deleted  set: ids of models that are deleted, or being deleted
--       trained  hash: model id -> when it was last trained, in Unix seconds
--       kinds    hash: model id -> of which kind its versions are
--       held     hash: model id -> the id of its task that is held back
-- ARGV  task id, model id, the task as JSON, the time in Unix seconds, seconds that must lie between
--       two trainings, how many tasks are kept, what the keys of a task and its log begin with, the
--       task's kind, when it was made, the same as JSON while it is held back ('': it is not to be),
--       '1' if it is held back already
-- Returns what came of it and more about it: made or known or busy or waits (another one is held
-- back already), and a task's id; deleted or gone, ''; kind, and that of the model's versions; soon,
-- and the seconds to wait.

local by_key, active, task, newest, open, deleted, trained, kinds, held = unpack(KEYS)
local id, model, value, now, interval, kept, stem, kind, made_at, held_value, is_held = unpack(ARGV)
local WEEK = 7 * 24 * 3600  -- seconds for which a key is remembered

-- What stands in the way for ever, and more about it; then what does for now.
local function refusal()
  if redis.call('SISMEMBER', deleted, model) == 1 then return 'deleted', '' end
  local own = redis.call('HGET', kinds, model)
  if own and own ~= kind then return 'kind', own end
end

local function obstacle()
  local running = redis.call('HGET', active, model)
  if running then return 'busy', running end
  local last = redis.call('HGET', trained, model)
  if last then
    -- Clocks differ: nobody waits for longer than the interval.
    local wait = math.min(tonumber(last) - tonumber(now), 0) + tonumber(interval)
    if wait > 0 then return 'soon', tostring(math.ceil(wait)) end
  end
end

local function forget_old()
  local waiting = {}
  for _, each in ipairs(redis.call('HVALS', held)) do waiting[each] = true end
  for _, old in ipairs(redis.call('ZRANGE', newest, 0, -1 - tonumber(kept))) do
    if not redis.call('ZSCORE', open, old) and not waiting[old] then
      redis.call('ZREM', newest, old)
      redis.call('DEL', stem .. ':task:' .. old, stem .. ':log:' .. old)
    end
  end
end

if is_held == '1' then
  -- It was cancelled, or another trainer has queued it.
  if redis.call('HGET', held, model) ~= id then return {'gone', ''} end
else
  local known = redis.call('GET', by_key)
  -- Of the tasks that are no longer kept the keys are forgotten, too.
  if known and redis.call('EXISTS', stem .. ':task:' .. known) == 1 then return {'known', known} end
end

local why, about = refusal()
if why then return {why, about} end
why, about = obstacle()
if why then
  if held_value == '' then return {why, about} end
  local other = redis.call('HGET', held, model)
  if other then return {'waits', other} end
  redis.call('HSET', held, model, id)
  redis.call('SET', task, held_value)
else
  if is_held == '1' then redis.call('HDEL', held, model) end
  redis.call('HSET', active, model, id)
  redis.call('SET', task, value)
  redis.call('ZADD', open, made_at, id)
end
if is_held ~= '1' then
  redis.call('SET', by_key, id, 'EX', WEEK)
  redis.call('ZADD', newest, made_at, id)
  forget_old()
end
return {'made', id}
