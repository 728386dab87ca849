-- Moves positions forward, never back: a worker that hung may come late with its own.
--
-- KEYS  positions  hash: place -> offset
-- ARGV  of each: place, offset

for i = 1, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or tonumber(known) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
