-- Scores events against the lists that their users had been served last, each event once.
--
-- KEYS  marks   hash: "<topic>/<partition>" -> "<topic id>:<last offset scored>"
--       counts  hash: "<start of a time slice>/<label>/<events, hits or gain>" -> how many, how much
--       of each user the lists; see keep_lists.lua
-- ARGV  MessagePack: seconds of a time slice, of the window, for which a list counts; what a list is
--       scored for at the most; the gain of each rank; the label of popular items, and those that are
--       now, first to last; the places, each as mark's field, topic id and the offset that calls before
--       this one reach there (-1 for none); the events, each as user (1 for the third key), place (1
--       for the first), offset, item id, timestamp
-- Returns of each label in turn: label, how many events were scored, hits, gain. Of popular items
-- nothing is kept.

local slice_s, window_s, ttl, most, gains, popularity, popular, places, events =
  unpack(cmsgpack.unpack(ARGV[1]))
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

local scores = {}
local function tell(label, rank)
  local score = scores[label] or {0, 0, 0}
  scores[label] = score
  score[1] = score[1] + 1
  if rank and gains[rank] then score[2], score[3] = score[2] + 1, score[3] + gains[rank] end
end

-- The rank in a list of popular items that leaves out what the user's own list left out.
local function popular_rank(item, passed)
  local out, rank = {}, 0
  for _, each in ipairs(passed) do out[each] = true end
  for _, each in ipairs(popular) do
    if not out[each] then
      rank = rank + 1
      if each == item then return rank end
    end
  end
end

local fields = {}
for i, place in ipairs(places) do fields[i] = place[1] end
local known, last = redis.call('HMGET', marks, unpack(fields)), {}
for i, place in ipairs(places) do
  local id, offset = string.match(known[i] or '', '^(.*):(%d+)$')
  last[i] = id == place[2] and tonumber(offset) or -1
  -- Events that stand before these were refused: scored now, these would hide them.
  if last[i] < place[3] then return redis.error_reply('EARLY a call before was refused') end
end

local raw, users, changed = redis.call('MGET', unpack(KEYS, 3)), {}, {}
for _, event in ipairs(events) do
  local user, place, offset, item, timestamp = unpack(event)
  if offset > last[place] then
    last[place] = offset
    if raw[user] then
      local lists = users[user] or cmsgpack.unpack(raw[user])
      users[user] = lists
      local list = last_list(lists, timestamp)
      if list and #list[4] < most and not place_of(item, list[4]) then
        local rank = place_of(item, list[3])
        count(timestamp, list[2], rank)
        tell(list[2], rank)
        if #popular > 0 then tell(popularity, popular_rank(item, list[4])) end
        list[4][#list[4] + 1] = item
        changed[user] = true
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
local answer = {}
for label, score in pairs(scores) do
  answer[#answer + 1] = label
  for _, number in ipairs(score) do answer[#answer + 1] = number end
end
return answer
