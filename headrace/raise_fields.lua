-- Sets fields of a hash where they are higher than what is there: whoever comes late takes nothing back.
--
-- KEYS  hash
-- ARGV  field, value, and so on

for at = 1, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[at])
  if not known or tonumber(known) < tonumber(ARGV[at + 1]) then
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  end
end
