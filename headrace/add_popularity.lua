-- Adds how often items were met, all of it or nothing.
--
-- KEYS  of each bucket two, which lie in one slot:
--       buckets  sorted set: the numbers of the step's buckets, each by itself
--       bucket   sorted set: item id by how often it was met
-- ARGV  MessagePack: items kept of a bucket, and of each bucket its number, and its items, each
--       followed by how often it was met

local limit, rows = unpack(cmsgpack.unpack(ARGV[1]))
for i, row in ipairs(rows) do
  local number, items = unpack(row)
  local buckets, bucket = KEYS[2 * i - 1], KEYS[2 * i]
  for at = 1, #items, 2 do redis.call('ZINCRBY', bucket, items[at + 1], items[at]) end
  -- The least met go when there are more; with many equals chance says which.
  redis.call('ZREMRANGEBYRANK', bucket, 0, -1 - limit)
  redis.call('ZADD', buckets, number, number)
end
