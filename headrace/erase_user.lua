-- Erases of a user's session what came before the user was erased; see apply_events.lua.
--
-- KEYS  items, seen, marks: the user's
-- ARGV  {mark's field: "<topic id>:<last offset that counts no more>"} as JSON; {kind: topic} as JSON;
--       seconds for which the former stays with the marks
-- Returns 1 when there was anything to erase, else 0.

local items, seen, marks = KEYS[1], KEYS[2], KEYS[3]
local ends, topics = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])

local function offset_of(mark)
  return tonumber(string.match(mark, ':(%d+)$'))
end

local had = redis.call('EXISTS', items, seen) > 0 and 1 or 0
local kept = {}
local all = redis.call('HGETALL', items)
for i = 1, #all, 2 do
  local _, kind, partition, offset = unpack(cjson.decode(all[i + 1]))
  local last = ends[topics[kind] .. '/' .. string.format('%.0f', partition)]
  if last and offset > offset_of(last) then kept[all[i]] = true else redis.call('HDEL', items, all[i]) end
end
local count = 0
for _, item in ipairs(redis.call('ZRANGE', seen, 0, -1)) do
  if kept[item] then count = count + 1 else redis.call('ZREM', seen, item) end
end

local later = {}
all = redis.call('HGETALL', marks)
for i = 1, #all, 2 do
  local field, mark = all[i], all[i + 1]
  if field ~= 'applied' and field ~= 'erased' then
    local last = ends[field]
    if not last or (string.match(mark, '^(.*):%d+$') == string.match(last, '^(.*):%d+$')
        and offset_of(mark) > offset_of(last)) then
      later[#later + 1] = field
      later[#later + 1] = mark
    end
  end
end
local ttl = redis.call('TTL', marks)
redis.call('DEL', marks)
if #later > 0 then redis.call('HSET', marks, 'applied', count, unpack(later)) end
redis.call('HSET', marks, 'erased', ARGV[1])
-- With a session that goes on they live as long as it does.
redis.call('EXPIRE', marks, #later > 0 and ttl > 0 and ttl or tonumber(ARGV[3]))
return had
