-- Sets a key if it still holds what the caller saw ('' stands for nothing).
--
-- KEYS  key
-- ARGV  value seen, new value

if (redis.call('GET', KEYS[1]) or '') == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
  return 1
end
return 0
