-- Scores events against the lists that their users had been served last, each event once.
--
-- KEYS  marks   hash: "<topic>/<partition>" -> "<topic id>:<last offset scored>"
--       counts  hash: "<start of a time slice>/<label>/<events, hits or gain>" -> how many, how much
--       of each user the lists; see keep_lists.lua
-- ARGV  MessagePack: seconds of a time slice, of the window, for which a list counts; what a list is
--       scored for at the most; the gain of each rank; the events, each as user (1 for the third key),
--       mark's field, topic id, offset, item id, timestamp
-- Returns how many events were scored.

local slice_s, window_s, ttl, most, gains, events = unpack(cmsgpack.unpack(ARGV[1]))
local marks, counts = KEYS[1], KEYS[2]

local known = {}

local function is_new(field, topic_id, offset)
  local mark = known[field] or redis.call('HGET', marks, field) or ''
  local id, last = string.match(mark, '^(.*):(%d+)$')
  if id == topic_id and offset <= tonumber(last) then
    known[field] = mark
    return false
  end
  known[field] = topic_id .. ':' .. string.format('%.0f', offset)
  return true
end

local function place_of(item, items)
  for place = 1, #items do
    if items[place] == item then return place end
  end
end

-- The last list served by then; they stand newest first.
local function last_list(lists, timestamp)
  for _, list in ipairs(lists) do
    if list[1] <= timestamp then
      return list[1] >= timestamp - ttl and list or nil
    end
  end
end

-- What left the window goes whenever a new slice begins.
local function forget_before(start)
  for _, field in ipairs(redis.call('HKEYS', counts)) do
    if tonumber(string.match(field, '^(%d+)/')) < start then redis.call('HDEL', counts, field) end
  end
end

local function count(timestamp, label, rank)
  local start = math.floor(timestamp / slice_s) * slice_s
  local stem = string.format('%.0f', start) .. '/' .. label .. '/'
  if redis.call('HINCRBY', counts, stem .. 'events', 1) == 1 then
    forget_before(start - window_s - slice_s)
  end
  if rank and gains[rank] then
    redis.call('HINCRBY', counts, stem .. 'hits', 1)
    redis.call('HINCRBY', counts, stem .. 'gain', gains[rank])
  end
end

local users, changed, scored = {}, {}, 0
for _, event in ipairs(events) do
  local user, field, topic_id, offset, item, timestamp = unpack(event)
  if is_new(field, topic_id, offset) then
    if not users[user] then
      local raw = redis.call('GET', KEYS[2 + user])
      users[user] = raw and cmsgpack.unpack(raw) or {}
    end
    local list = last_list(users[user], timestamp)
    if list and #list[4] < most and not place_of(item, list[4]) then
      count(timestamp, list[2], place_of(item, list[3]))
      list[4][#list[4] + 1] = item
      changed[user] = true
      scored = scored + 1
    end
  end
end
for user in pairs(changed) do
  redis.call('SET', KEYS[2 + user], cmsgpack.pack(users[user]), 'KEEPTTL')
end
local fields = {}
for field, mark in pairs(known) do
  fields[#fields + 1] = field
  fields[#fields + 1] = mark
end
if #fields > 0 then redis.call('HSET', marks, unpack(fields)) end
return scored
