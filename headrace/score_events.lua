-- Scores events against the lists that their users had been served last, each event once.
--
-- KEYS  marks   hash: "<topic>/<partition>" -> "<topic id>:<last offset scored>"
--       counts  hash: "<start of a time slice>/<label>/<events, hits or gain>" -> how many, how much
--       of each user the lists; see keep_lists.lua
-- ARGV  MessagePack: seconds of a time slice, of the window, for which a list counts; what a list is
--       scored for at the most; the gain of each rank; the places, each as mark's field and topic id;
--       the events, each as user (1 for the third key), place (1 for the first), offset, item id,
--       timestamp
-- Returns how many events were scored.

local slice_s, window_s, ttl, most, gains, places, events = unpack(cmsgpack.unpack(ARGV[1]))
local marks, counts = KEYS[1], KEYS[2]

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

local fields = {}
for i, place in ipairs(places) do fields[i] = place[1] end
local known, last = redis.call('HMGET', marks, unpack(fields)), {}
for i, place in ipairs(places) do
  local id, offset = string.match(known[i] or '', '^(.*):(%d+)$')
  last[i] = id == place[2] and tonumber(offset) or -1
end

local raw, users, changed, scored = redis.call('MGET', unpack(KEYS, 3)), {}, {}, 0
for _, event in ipairs(events) do
  local user, place, offset, item, timestamp = unpack(event)
  if offset > last[place] then
    last[place] = offset
    if raw[user] then
      local lists = users[user] or cmsgpack.unpack(raw[user])
      users[user] = lists
      local list = last_list(lists, timestamp)
      if list and #list[4] < most and not place_of(item, list[4]) then
        count(timestamp, list[2], place_of(item, list[3]))
        list[4][#list[4] + 1] = item
        changed[user] = true
        scored = scored + 1
      end
    end
  end
end
for user in pairs(changed) do
  redis.call('SET', KEYS[2 + user], cmsgpack.pack(users[user]), 'KEEPTTL')
end
local stored = {}
for i, place in ipairs(places) do
  stored[2 * i - 1] = place[1]
  stored[2 * i] = place[2] .. ':' .. string.format('%.0f', last[i])
end
redis.call('HSET', marks, unpack(stored))
return scored
