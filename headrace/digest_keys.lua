-- Returns a digest of each key's name and content, which depends on neither the order in which Redis
-- holds what has none, nor on when the key expires; '' for a key that is not there.
--
-- KEYS  strings, hashes, sets and sorted sets
-- ARGV  length of the prefix that does not count as part of the names

local readers = {
  string = function(key) return redis.call('GET', key) end,
  hash = function(key) return redis.call('HGETALL', key), 2 end,
  set = function(key) return redis.call('SMEMBERS', key), 1 end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES'), 2 end,
}

-- Each part's length goes before it: two parts are not one.
local function joined(parts, first, last)
  local lengths = {}
  for i = first, last do lengths[#lengths + 1] = #parts[i] .. ':' .. parts[i] end
  return table.concat(lengths)
end

local function canonical(content, width)
  if not width then return content end
  local rows = {}
  for i = 1, #content, width do
    rows[#rows + 1] = redis.sha1hex(joined(content, i, i + width - 1))
  end
  table.sort(rows)
  return table.concat(rows)
end

local digests = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  local reader = readers[kind]
  local name = string.sub(key, tonumber(ARGV[1]) + 1)
  digests[i] = reader and redis.sha1hex(joined({name, kind, canonical(reader(key))}, 1, 3)) or ''
end
return digests
