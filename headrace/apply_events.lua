-- Applies events to one user's session, in order, each once.
--
-- KEYS  items   hash: item id -> [timestamp, kind, partition, offset, rating] as JSON
--       seen    sorted set: item id by timestamp; holds every member of items, and older ones
--       marks   hash: "<topic>/<partition>" -> "<topic id>:<last offset applied>"; applied -> count
-- ARGV  limit, seen limit, seconds to live, then of each event:
--       mark's field, topic id, offset, item id, timestamp, value
-- Returns how many of the events had not been applied before.

local items, seen, marks = KEYS[1], KEYS[2], KEYS[3]
local limit, seen_limit, ttl = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

-- By timestamp, then kind (which stands for the topic), partition and offset.
local function newer(a, b)
  for i = 1, 4 do
    if a[i] ~= b[i] then return a[i] > b[i] end
  end
  return false
end

local function older(found, item, raw)
  local value = cjson.decode(raw)
  if not found or newer(found.value, value) then return {item = item, value = value} end
  return found
end

-- The oldest interaction. The dictionary holds the newest of the seen items, so the sorted set gives
-- its timestamp; among equal ones the values decide.
local function oldest()
  local rank = redis.call('HLEN', items) - 1
  local timestamp = redis.call('ZREVRANGE', seen, rank, rank, 'WITHSCORES')[2]
  local found
  for _, item in ipairs(timestamp and redis.call('ZRANGEBYSCORE', seen, timestamp, timestamp) or {}) do
    local raw = redis.call('HGET', items, item)
    if raw then found = older(found, item, raw) end
  end
  if found then return found end
  -- The set was lost (Redis evicts single keys when told to), or the limit was raised: look at all.
  local all = redis.call('HGETALL', items)
  for i = 1, #all, 2 do
    found = older(found, all[i], all[i + 1])
    redis.call('ZADD', seen, string.format('%.17g', cjson.decode(all[i + 1])[1]), all[i])
  end
  return found
end

-- The seen item to forget: the oldest that is no longer in the dictionary.
local function stalest()
  local timestamp = redis.call('ZRANGE', seen, 0, 0, 'WITHSCORES')[2]
  for _, item in ipairs(redis.call('ZRANGEBYSCORE', seen, timestamp, timestamp)) do
    if redis.call('HEXISTS', items, item) == 0 then return item end
  end
  return redis.call('ZRANGE', seen, 0, 0)[1]
end

local function remember(item, timestamp, value)
  local fits = true
  while redis.call('HLEN', items) > limit do redis.call('HDEL', items, oldest().item) end
  local old = redis.call('HGET', items, item)
  if old then
    if not newer(cjson.decode(value), cjson.decode(old)) then return end
  else
    local known = redis.call('ZSCORE', seen, item)
    if known and tonumber(timestamp) < tonumber(known) then return end
    if redis.call('HLEN', items) == limit then
      -- Compared before it joins the set: a late one would stand behind items dropped long ago.
      local last = oldest()
      fits = newer(cjson.decode(value), last.value)
      if fits then redis.call('HDEL', items, last.item) end
    end
  end
  redis.call('ZADD', seen, timestamp, item)
  if fits then redis.call('HSET', items, item, value) end
  while redis.call('ZCARD', seen) > seen_limit do redis.call('ZREM', seen, stalest()) end
end

local applied = 0
for i = 4, #ARGV, 6 do
  local field, topic_id, offset, item, timestamp, value = unpack(ARGV, i, i + 5)
  local mark = redis.call('HGET', marks, field)
  local id, last
  if mark then id, last = string.match(mark, '^(.*):(%d+)$') end
  if id ~= topic_id or tonumber(offset) > tonumber(last) then
    remember(item, timestamp, value)
    redis.call('HSET', marks, field, topic_id .. ':' .. offset)
    applied = applied + 1
  end
end
if applied > 0 then
  redis.call('HINCRBY', marks, 'applied', applied)
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ttl) end
end
return applied
