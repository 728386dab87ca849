-- Keeps lists that users were served, the newest ones of each, for events to be scored against.
--
-- KEYS  of each user a string, MessagePack: the lists, newest first, each as when it was served, label,
--       its items in their order, and the items that it is not scored for
-- ARGV  MessagePack: lists kept of a user, seconds until a user's expire, and the lists, each as user
--       (1 for the first key), when it was served, label, items, items that it is not scored for
--
-- A list that is there stays as it is: one that comes once more has been scored for some items since.

local limit, ttl, rows = unpack(cmsgpack.unpack(ARGV[1]))

local function keep(lists, served_at, list)
  local at = 1
  while lists[at] and lists[at][1] > served_at do at = at + 1 end
  if lists[at] and lists[at][1] == served_at then return false end
  if at > limit then return false end
  table.insert(lists, at, list)
  lists[limit + 1] = nil
  return true
end

local users, changed = {}, {}
for _, row in ipairs(rows) do
  local user, served_at, label, items, passed = unpack(row)
  if not users[user] then
    local raw = redis.call('GET', KEYS[user])
    users[user] = raw and cmsgpack.unpack(raw) or {}
  end
  if keep(users[user], served_at, {served_at, label, items, passed}) then changed[user] = true end
end
for user in pairs(changed) do
  redis.call('SET', KEYS[user], cmsgpack.pack(users[user]), 'EX', ttl)
end
