-- Takes events of one partition number into what all users together did, in the order given, each
-- once: the transitions from item to item, and the counts of what is trending.
--
-- KEYS  marks     hash: "<topic>/<topic id>" -> the last offset taken; events -> how many there were;
--                 newest -> the newest event's timestamp; half_life -> what counts decay by half in,
--                 in seconds
--       of each of t topics: a stream of its transitions, an entry's ID being "<offset>-1"; a sorted
--                 set, item id by the base-2 logarithm of its decayed count
--       of each of u users a string: the newest items, newest first, one a line; after an empty line
--                 the newest events' digests, likewise
-- ARGV  MessagePack: items kept of a user, digests kept of a user, entries kept of a stream, items
--       kept of a sorted set, seconds until strings and streams expire (0: never), the half-life as
--       text, the topics' fields in marks, the offsets that calls before this one reach in them (-1 for
--       none), and the events, each as topic (1 to t), user (1 to u),
--       offset, item id, digest of its event_id, timestamp, base-2 logarithm of its weight
-- Returns how many of the events had not been taken before.
--
-- An event that a producer sent again stands at an offset of its own: its digest tells, while it is
-- among its user's newest.

local steps, remembered, window, trending_limit, ttl, half_life, fields, before, events =
  unpack(cmsgpack.unpack(ARGV[1]))
local marks, log2 = KEYS[1], math.log(2)

local function read(key)
  local items, digests = string.match(redis.call('GET', key) or '', '^(.-)\n\n(.*)$')
  return {items = items or '', digests = digests or ''}
end

-- The first lines of a text that has at most one more.
local function first_lines(text, limit)
  local at = 0
  for _ = 1, limit do
    at = string.find(text, '\n', at + 1, true)
    if not at then return text end
  end
  return string.sub(text, 1, at - 1)
end

local function push(text, line, limit)
  return text == '' and line or first_lines(line .. '\n' .. text, limit)
end

-- A digest has eight characters.
local function knows(digests, digest)
  return string.find('\n' .. digests, '\n' .. digest, 1, true)
end

local function push_digest(digests, digest)
  return string.sub(digest .. '\n' .. digests, 1, 9 * remembered - 1)
end

local function count(key, item, weight)
  local known = tonumber(redis.call('ZSCORE', key, item) or '-inf')
  local high, low = math.max(known, weight), math.min(known, weight)
  if low > -math.huge then high = high + math.log(1 + 2 ^ (low - high)) / log2 end
  redis.call('ZADD', key, string.format('%.17g', high), item)
  -- More than one, once the limit was lowered.
  if known == -math.huge then redis.call('ZREMRANGEBYRANK', key, 0, -1 - trending_limit) end
end

local known = redis.call('HMGET', marks, 'newest', 'half_life', unpack(fields))
local newest, kept_by = tonumber(known[1] or '-inf'), known[2]
local last = {}
for topic = 1, #fields do
  last[topic] = tonumber(known[topic + 2] or '-1')
  -- Events that stand before these were refused: taken now, these would hide them.
  if last[topic] < before[topic] then return redis.error_reply('EARLY a call before was refused') end
end

-- Counts that decayed by another half-life go on from what was left of them at the newest event, those
-- of all topics at once: some may get their next event long after.
local function adapt()
  local shift = string.format('%.17g', newest / half_life - newest / kept_by)
  local stem = string.sub(KEYS[3], 1, -1 - #string.match(fields[1], '^[^/]*'))
  local topics = {}
  for _, field in ipairs(redis.call('HKEYS', marks)) do
    local topic = string.match(field, '^([^/]*)/')
    if topic then topics[topic] = true end
  end
  for topic in pairs(topics) do
    for _, item in ipairs(redis.call('ZRANGE', stem .. topic, 0, -1)) do
      redis.call('ZINCRBY', stem .. topic, shift, item)
    end
  end
end
if kept_by and kept_by ~= half_life then adapt() end
if kept_by ~= half_life then redis.call('HSET', marks, 'half_life', half_life) end

local recent, changed, taken = {}, {}, 0
for _, event in ipairs(events) do
  local topic, user, offset, item, digest, timestamp, weight = unpack(event)
  if offset > last[topic] then
    last[topic] = offset
    local key = KEYS[1 + 2 * #fields + user]
    local met = recent[user] or read(key)
    recent[user] = met
    if not knows(met.digests, digest) then
      redis.call('XADD', KEYS[2 * topic], 'MAXLEN', '~', window, string.format('%.0f-1', offset),
        'item', item, 'previous', met.items)
      count(KEYS[2 * topic + 1], item, weight)
      met.items = push(met.items, item, steps)
      met.digests = push_digest(met.digests, digest)
      changed[user] = key
      newest = math.max(newest, timestamp)
      taken = taken + 1
    end
  end
end
for user, key in pairs(changed) do
  local text = recent[user].items .. '\n\n' .. recent[user].digests
  if ttl > 0 then redis.call('SET', key, text, 'EX', ttl) else redis.call('SET', key, text) end
end
for topic, field in ipairs(fields) do
  if last[topic] >= 0 then redis.call('HSET', marks, field, string.format('%.0f', last[topic])) end
  if ttl > 0 then redis.call('EXPIRE', KEYS[2 * topic], ttl) end
end
if taken > 0 then
  redis.call('HINCRBY', marks, 'events', taken)
  redis.call('HSET', marks, 'newest', string.format('%.17g', newest))
end
return taken
