-- Keeps the transitions of one partition number, each once, in the order given.
--
-- KEYS  t streams: one of each topic that has the partition; an entry's ID is "<offset>-1"
--       u strings: the newest items of each user, newest first, one a line
-- ARGV  t, items kept of a user, entries kept of a stream, seconds until either expires,
--       then of each event: its stream (1 to t), its user (1 to u), offset, item id
-- Returns how many of the events had not been kept before.
--
-- A stream remembers the last ID it was given, also when that entry was trimmed away: that is the
-- mark, at or before which an event changes nothing.

local streams, steps = tonumber(ARGV[1]), tonumber(ARGV[2])
local window, ttl = ARGV[3], ARGV[4]

local function last_offset(stream)
  if redis.call('EXISTS', stream) == 0 then return -1 end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return tonumber(string.match(info[i + 1], '^%d+')) end
  end
end

local function lines(text)
  local found = {}
  for line in string.gmatch(text or '', '[^\n]+') do found[#found + 1] = line end
  return found
end

local last, recent, changed = {}, {}, {}
local kept = 0
for i = 5, #ARGV, 4 do
  local stream, user = tonumber(ARGV[i]), streams + tonumber(ARGV[i + 1])
  local offset, item = tonumber(ARGV[i + 2]), ARGV[i + 3]
  last[stream] = last[stream] or last_offset(KEYS[stream])
  if offset > last[stream] then
    recent[user] = recent[user] or lines(redis.call('GET', KEYS[user]))
    redis.call('XADD', KEYS[stream], 'MAXLEN', '~', window, ARGV[i + 2] .. '-1',
      'item', item, 'previous', table.concat(recent[user], '\n'))
    table.insert(recent[user], 1, item)
    recent[user][steps + 1] = nil
    last[stream], changed[user] = offset, true
    kept = kept + 1
  end
end
for user in pairs(changed) do
  redis.call('SET', KEYS[user], table.concat(recent[user], '\n'), 'EX', ttl)
end
for stream in pairs(last) do redis.call('EXPIRE', KEYS[stream], ttl) end
return kept
