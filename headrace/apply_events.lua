-- Applies events to users' sessions, each user's in order, each once.
--
-- KEYS  of each user three, which lie in one slot:
--       items   hash: item id -> [timestamp, kind, partition, offset, rating] as JSON
--       seen    sorted set: item id by timestamp; holds every member of items, and older ones
--       marks   hash: "<topic>/<partition>" -> "<topic id>:<last offset applied>"; applied -> count;
--               erased -> {mark's field: "<topic id>:<offset>"} as JSON: up to where events of an
--               erased user are ignored; written by erase_user.lua
-- ARGV  MessagePack: limit, seen limit, seconds to live (0: for ever), and the events, each as
--       user (1 for the first three keys), mark's field, topic id, offset, item id, timestamp, value
-- Returns a letter for each event: n when it was new, o when it had been applied before, e when its
-- user was erased after it.

local limit, seen_limit, ttl, events = unpack(cmsgpack.unpack(ARGV[1]))
local items, seen, marks

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
  local fits, length = true, redis.call('HLEN', items)
  while length > limit do
    redis.call('HDEL', items, oldest().item)
    length = length - 1
  end
  local old = redis.call('HGET', items, item)
  if old then
    if not newer(cjson.decode(value), cjson.decode(old)) then return end
  else
    local known = redis.call('ZSCORE', seen, item)
    if known and timestamp < tonumber(known) then return end
    if length == limit then
      -- Compared before it joins the set: a late one would stand behind items dropped long ago.
      local last = oldest()
      fits = newer(cjson.decode(value), last.value)
      if fits then redis.call('HDEL', items, last.item) end
    end
  end
  local joins = redis.call('ZADD', seen, timestamp, item) == 1
  if fits then redis.call('HSET', items, item, value) end
  while joins and redis.call('ZCARD', seen) > seen_limit do redis.call('ZREM', seen, stalest()) end
end

local function reached(mark, topic_id, offset)
  if not mark then return false end
  local id, last = string.match(mark, '^(.*):(%d+)$')
  return id == topic_id and offset <= tonumber(last)
end

local users = {}

local function load(number, field)
  local first = 3 * number - 2
  local known = redis.call('HMGET', KEYS[first + 2], 'erased', 'applied', field)
  users[number] = {
    first = first,
    erased = known[1] and cjson.decode(known[1]) or {},
    applied = tonumber(known[2] or '0'),
    marks = {[field] = known[3]},
    changed = {},
  }
  return users[number]
end

local outcomes = {}
for i, event in ipairs(events) do
  local number, field, topic_id, offset, item, timestamp, value = unpack(event)
  local user = users[number] or load(number, field)
  items, seen, marks = KEYS[user.first], KEYS[user.first + 1], KEYS[user.first + 2]
  local mark = user.marks[field]
  if mark == nil then
    mark = redis.call('HGET', marks, field)
    user.marks[field] = mark
  end
  if reached(user.erased[field], topic_id, offset) then
    outcomes[i] = 'e'
  elseif reached(mark, topic_id, offset) then
    outcomes[i] = 'o'
  else
    remember(item, timestamp, value)
    mark = topic_id .. ':' .. string.format('%.0f', offset)
    user.marks[field], user.changed[field] = mark, mark
    user.applied = user.applied + 1
    outcomes[i] = 'n'
  end
end
for _, user in pairs(users) do
  local fields = {}
  for field, mark in pairs(user.changed) do
    fields[#fields + 1] = field
    fields[#fields + 1] = mark
  end
  if #fields > 0 then
    redis.call('HSET', KEYS[user.first + 2], 'applied', user.applied, unpack(fields))
    -- Not at each event: a write in the append-only file for each key is much of what one costs.
    if ttl > 0 and redis.call('TTL', KEYS[user.first]) < 0.99 * ttl then
      for key = user.first, user.first + 2 do
        -- The marks of a user who was erased may have longer to live.
        if redis.call('TTL', KEYS[key]) < ttl then redis.call('EXPIRE', KEYS[key], ttl) end
      end
    end
  end
end
return table.concat(outcomes)
