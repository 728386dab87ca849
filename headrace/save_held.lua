-- Sets a key if the caller still holds the lease.
--
-- KEYS  lease, key
-- ARGV  the lease's holder, value, the lease in milliseconds, by which it is renewed

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
