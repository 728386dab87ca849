-- Forgets the lists that a user was served up to some moment; see keep_lists.lua.
--
-- KEYS  the user's lists
-- ARGV  the moment, in Unix seconds

local raw = redis.call('GET', KEYS[1])
if not raw then return end
local kept = {}
for _, list in ipairs(cmsgpack.unpack(raw)) do
  if list[1] > tonumber(ARGV[1]) then kept[#kept + 1] = list end
end
if #kept == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], cmsgpack.pack(kept), 'KEEPTTL')
end
