-- A step of putting a version live, unless it is a trainer's whose task another one has taken.
--
-- KEYS  live      list: what went live, the newest first
--       sequence  of the last change
--       fence     the largest number of a trainer that has taken a training of the model
-- ARGV  the step: fence (be the trainer whose versions may go live), number (the next change) or live;
--       the trainer's number ('' is no trainer); what goes live; how many are remembered
-- Returns the change's number, 0 for a step without one, -1 when there is another trainer.

local live, sequence, fence = unpack(KEYS)
local step, number, value, kept = unpack(ARGV)

if number ~= '' then
  if tonumber(redis.call('GET', fence) or '0') > tonumber(number) then return -1 end
  redis.call('SET', fence, number)
end
if step == 'number' then return redis.call('INCR', sequence) end
if step == 'live' then
  redis.call('LPUSH', live, value)
  redis.call('LTRIM', live, 0, kept - 1)
end
return 0
