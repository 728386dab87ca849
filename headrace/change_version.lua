-- Changes which version of a model is live, whether it is pinned, or what is deleted: all or nothing.
--
-- KEYS  history  list: what went live, newest first, as JSON
--       state    hash: sequence -> number of changes so far; pinned -> version; fence -> the highest
--                one seen; deleted -> 1 when the model was; emptied -> 1 from then on, also when it was
--                created again
--       gone     set: versions that were deleted
--       untold   list: messages that Kafka has not acknowledged yet, oldest first
-- ARGV  change   live, pin, unpin, delete, delete-model or create-model; or fence, which changes
--                nothing but from which number on trainers may
--       version  that it is about, '' for none
--       entry    JSON object without `sequence`: what the history keeps when a version goes live
--       message  JSON object without `sequence`, `live` and `pinned`: what is told
--       expected the version that must be live, '' for none, '*' for whichever is
--       unasked  1 when nobody asked for this very change: it gives way to pins, and keeps the version
--                that a rollback leads to
--       fence    the asker's number; one lower than another's that was seen comes too late. 0: none
--       limit    entries that the history keeps
-- Returns {1, entry or message} when it was done, else {0, why, the version that is live or ''}.

local history, state, gone, untold = unpack(KEYS)
local change, version, entry, message, expected, unasked, fence, limit = unpack(ARGV)

local newest = redis.call('LINDEX', history, 0)
local live = newest and cjson.decode(newest).version or ''
local pinned = redis.call('HGET', state, 'pinned') or ''

local function refused(why) return {0, why, live} end

-- The version that a rollback leads to.
local function before()
  for _, raw in ipairs(redis.call('LRANGE', history, 1, -1)) do
    local name = cjson.decode(raw).version
    if name ~= live and redis.call('SISMEMBER', gone, name) == 0 then return name end
  end
  return ''
end

local function with(object, members) return string.sub(object, 1, -2) .. ',' .. members .. '}' end
local function quoted(name) return name == '' and 'null' or '"' .. name .. '"' end

if redis.call('HEXISTS', state, 'deleted') == 1 and change ~= 'create-model' then return refused('deleted') end
if tonumber(fence) > 0 then
  if tonumber(fence) < tonumber(redis.call('HGET', state, 'fence') or '0') then return refused('fenced') end
  redis.call('HSET', state, 'fence', fence)
end
if change == 'fence' then return {1, ''} end
if expected ~= '*' and expected ~= live then return refused('changed') end
if version ~= '' and redis.call('SISMEMBER', gone, version) == 1 then return refused('gone') end

local goes_live = change == 'live' or (change == 'pin' and version ~= live)
if change == 'live' and unasked == '1' and pinned ~= '' then return refused('pinned') end
if change == 'pin' and version == '' then return refused('nothing') end
if change == 'delete' then
  if version == live or version == pinned then return refused('live') end
  if unasked == '1' and version == before() then return refused('before') end
  redis.call('SADD', gone, version)
elseif change == 'delete-model' then
  redis.call('DEL', history)
  redis.call('HDEL', state, 'pinned')
  redis.call('HSET', state, 'deleted', 1, 'emptied', 1)
  live, pinned = '', ''
elseif change == 'create-model' then
  redis.call('HDEL', state, 'deleted')
elseif change == 'unpin' then
  redis.call('HDEL', state, 'pinned')
  pinned = ''
elseif change == 'pin' or pinned ~= '' then
  -- Who puts another version live by hand means that one to stay.
  redis.call('HSET', state, 'pinned', version)
  pinned = version
end

local sequence = string.format('%.0f', redis.call('HINCRBY', state, 'sequence', 1))
if goes_live then
  entry = with(entry, '"sequence":' .. sequence)
  redis.call('LPUSH', history, entry)
  redis.call('LTRIM', history, 0, limit - 1)
  live = version
end
message = with(message, '"sequence":' .. sequence .. ',"live":' .. quoted(live) .. ',"pinned":' .. quoted(pinned))
redis.call('RPUSH', untold, message)
return {1, goes_live and entry or message}
