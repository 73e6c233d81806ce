-- erase_user: take one user out of a shard's state and report, and note what that was, unless it has changed.
--
-- KEYS  1 ledger     hash  the shard's counters
--       2 spans      hash  user -> packed spans
--       3 averages   hash  user -> packed totals
--       4 versions   hash  merchant -> moment of the last change of its averages, microseconds
--       5 erasures   hash  what was taken out of this shard, by user and by kind, until a receipt was given
--       6 summaries hash  merchant, or '' for all of them, -> what the averages come to
--       7.. averages of one merchant each, hash, in the order of ARGV's merchants
-- ARGV  1  the user
--       2  the user's packed spans, '' where there are none
--       3  how many these are
--       4  events in them
--       5  how the fields of `erasures` begin, '' where nothing is noted
--       6.. merchants
--
-- Returns {'fenced'} while the shard is fenced, {'changed'} where the spans are others; else {'erased', version of the
-- shard's part of the report, which does not have the user}.

if redis.call('HEXISTS', KEYS[1], 'fence') == 1 then
  return { 'fenced' } -- another generation, which may have the user, is about to become the live one
end
local user = ARGV[1]
if (redis.call('HGET', KEYS[2], user) or '') ~= ARGV[2] then
  return { 'changed' }
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function set_version(key, field)
  local version = math.max(tonumber(redis.call('HGET', key, field) or 0) + 1, now)
  redis.call('HSET', key, field, string.format('%.0f', version))
  return version
end

local removed = redis.call('HDEL', KEYS[2], user)
local averages = redis.call('HDEL', KEYS[3], user)
for key = 7, #KEYS do
  if redis.call('HDEL', KEYS[key], user) == 1 then
    averages = averages + 1
    set_version(KEYS[4], ARGV[key - 1])
  end
end
local version
if removed + averages > 0 then
  redis.call('HINCRBY', KEYS[1], 'commits', 1) -- what others have read of the user is void
  version = set_version(KEYS[1], 'version')
  redis.call('UNLINK', KEYS[6]) -- the user's numbers are in them
  if ARGV[5] ~= '' then
    redis.call('HINCRBY', KEYS[5], ARGV[5] .. ':state_spans', ARGV[3])
    redis.call('HINCRBY', KEYS[5], ARGV[5] .. ':state_events', ARGV[4])
    redis.call('HINCRBY', KEYS[5], ARGV[5] .. ':report_averages', averages)
  end
else
  version = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
end
return { 'erased', version }
