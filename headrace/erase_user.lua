-- Erases of a user's session what came before the user was erased; see apply_events.lua.
--
-- KEYS  items, seen, marks: the user's
-- ARGV  {mark's field: "<topic id>:<last offset that counts no more>", at: Unix milliseconds} as JSON;
--       {kind: topic} as JSON; seconds for which the former stays with the marks at the least
-- Returns 1 when there was anything to erase, else 0.
--
-- What came later stays, but for what an erased event kept out: an older event of the same item, or
-- an item past the session's limit. `applied` goes on from the number of items that stay: of two later
-- events of one item the first left no trace. Which topic of this name an item came from does not
-- stand with it: one from before the topic was made anew stays if a later event may have had its offset.

local items, seen, marks = KEYS[1], KEYS[2], KEYS[3]
local last, topics = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])

local function parsed(mark)
  local id, offset = string.match(mark or '', '^(.*):(-?%d+)$')
  return id, tonumber(offset)
end

-- Whether `known` says at least as much of a field as `given`. Of a topic made anew the time tells.
local function reaches(known, given, field)
  local id, offset = parsed(known[field])
  local given_id, given_offset = parsed(given[field])
  if id == given_id then return offset >= given_offset end
  return id and known.at >= given.at or false
end

-- What was erased before; a later erasure may have come first.
local before = redis.call('HGET', marks, 'erased')
if before then
  local known, more = cjson.decode(before), false
  for field, mark in pairs(last) do
    if field ~= 'at' then
      if reaches(known, last, field) then last[field] = known[field] else more = true end
    end
  end
  if not more then return 0 end
  for field, mark in pairs(known) do
    if not last[field] then last[field] = mark end
  end
  last.at = math.max(last.at, known.at)
end

-- Which offsets of a field came later. A mark of another topic id is of a topic that was made anew.
local later, kept_marks = {}, {}
for field, mark in pairs(last) do
  local stored = field ~= 'at' and redis.call('HGET', marks, field)
  if stored then
    local id, offset = parsed(stored)
    local last_id, last_offset = parsed(mark)
    if id == last_id and offset > last_offset then
      later[field] = {last_offset, offset}
      kept_marks[#kept_marks + 1] = field
      kept_marks[#kept_marks + 1] = stored
    end
  end
end

local had = redis.call('EXISTS', items, seen) > 0 and 1 or 0
local kept, count = {}, 0
local all = redis.call('HGETALL', items)
for i = 1, #all, 2 do
  local _, kind, partition, offset = unpack(cjson.decode(all[i + 1]))
  local span = later[topics[kind] .. '/' .. string.format('%.0f', partition)]
  if span and offset > span[1] and offset <= span[2] then
    kept[all[i]] = true
    count = count + 1
  else
    redis.call('HDEL', items, all[i])
  end
end
if count == 0 then
  redis.call('DEL', seen)
else
  for _, item in ipairs(redis.call('ZRANGE', seen, 0, -1)) do
    if not kept[item] then redis.call('ZREM', seen, item) end
  end
end

local ttl = redis.call('TTL', marks)
redis.call('DEL', marks)
redis.call('HSET', marks, 'erased', cjson.encode(last))
if #kept_marks > 0 then
  redis.call('HSET', marks, 'applied', count, unpack(kept_marks))
  -- With a session that goes on it lives as long as that does.
  if ttl > 0 then redis.call('EXPIRE', marks, math.max(ttl, tonumber(ARGV[3]))) end
else
  redis.call('EXPIRE', marks, ARGV[3])
end
return had
