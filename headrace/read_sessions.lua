-- Reads sessions: of each user three keys, the marks, the session dictionary and the hidden items.
-- All as of one moment, for nothing runs beside a script.
local found = {}
for first = 1, #KEYS, 3 do
  found[first] = redis.call('HGETALL', KEYS[first])
  found[first + 1] = redis.call('HGETALL', KEYS[first + 1])
  found[first + 2] = redis.call('ZRANGE', KEYS[first + 2], 0, -1)
end
return found
