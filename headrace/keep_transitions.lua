-- Keeps the transitions of one partition number, each once, in the order given.
--
-- KEYS  t streams: one of each topic that has the partition; an entry's ID is "<offset>-1"
--       u strings: of each user the newest items, newest first, one a line; after an empty line
--         the newest events' digests, likewise
-- ARGV  t, items kept of a user, digests kept of a user, entries kept of a stream, seconds until
--       either expires, then of each event: its stream (1 to t), its user (1 to u), offset,
--       item id, digest of its event_id
-- Returns how many of the events had not been kept before.
--
-- A stream remembers the last ID it was given, also when that entry was trimmed away: that is the
-- mark, at or before which an event changes nothing. An event that a producer sent again stands at
-- an offset of its own: its digest tells, while it is among its user's newest.

local streams, steps, remembered = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local window, ttl = ARGV[4], ARGV[5]

local function last_offset(stream)
  if redis.call('EXISTS', stream) == 0 then return -1 end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return tonumber(string.match(info[i + 1], '^%d+')) end
  end
end

local function lines(text)
  local found = {}
  for line in string.gmatch(text, '[^\n]+') do found[#found + 1] = line end
  return found
end

local function read(key)
  local items, digests = string.match(redis.call('GET', key) or '', '^(.-)\n\n(.*)$')
  return {items = lines(items or ''), digests = lines(digests or '')}
end

local function written(user)
  return table.concat(user.items, '\n') .. '\n\n' .. table.concat(user.digests, '\n')
end

local function contains(list, wanted)
  for _, value in ipairs(list) do
    if value == wanted then return true end
  end
  return false
end

local function push(list, value, limit)
  table.insert(list, 1, value)
  list[limit + 1] = nil
end

local last, recent, changed = {}, {}, {}
local kept = 0
for i = 6, #ARGV, 5 do
  local stream, user = tonumber(ARGV[i]), streams + tonumber(ARGV[i + 1])
  local offset, item, digest = tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4]
  last[stream] = last[stream] or last_offset(KEYS[stream])
  if offset > last[stream] then
    recent[user] = recent[user] or read(KEYS[user])
    if not contains(recent[user].digests, digest) then
      redis.call('XADD', KEYS[stream], 'MAXLEN', '~', window, ARGV[i + 2] .. '-1',
        'item', item, 'previous', table.concat(recent[user].items, '\n'))
      push(recent[user].items, item, steps)
      push(recent[user].digests, digest, remembered)
      last[stream], changed[user] = offset, true
      kept = kept + 1
    end
  end
end
for user in pairs(changed) do redis.call('SET', KEYS[user], written(recent[user]), 'EX', ttl) end
for stream in pairs(last) do redis.call('EXPIRE', KEYS[stream], ttl) end
return kept
