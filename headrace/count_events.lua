-- Counts events of one topic's partition, in order, each once.
--
-- KEYS  items  sorted set: item id by the base-2 logarithm of its decayed count
--       mark   hash: id (the topic's), offset (the last one counted), events (how many)
-- ARGV  limit, topic id, then of each event: offset, item id, base-2 logarithm of its weight
-- Returns how many of the events had not been counted before.

local items, mark = KEYS[1], KEYS[2]
local limit, topic_id = tonumber(ARGV[1]), ARGV[2]
local known = redis.call('HMGET', mark, 'id', 'offset')
local last = known[1] == topic_id and tonumber(known[2]) or -1
local log2 = math.log(2)

local counted = 0
for i = 3, #ARGV, 3 do
  local offset, item, weight = tonumber(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 2])
  if offset > last then
    local count = tonumber(redis.call('ZSCORE', items, item) or '-inf')
    local high, low = math.max(count, weight), math.min(count, weight)
    if low > -math.huge then high = high + math.log(1 + 2 ^ (low - high)) / log2 end
    redis.call('ZADD', items, string.format('%.17g', high), item)
    last = offset
    counted = counted + 1
  end
end
if counted > 0 then
  redis.call('HSET', mark, 'id', topic_id, 'offset', string.format('%d', last))
  redis.call('HINCRBY', mark, 'events', counted)
  redis.call('ZREMRANGEBYRANK', items, 0, -limit - 1)
end
return counted
