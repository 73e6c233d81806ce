-- erase_user: take one user out of a shard's state and report.
--
-- KEYS  1 ledger    hash  the shard's counters
--       2 spans     hash  user -> packed spans
--       3 averages  hash  user -> packed totals
--       4 versions  hash  merchant -> moment of the last change of its averages, microseconds
--       5.. averages of one merchant each, hash, in the order of ARGV's merchants
-- ARGV  1  the user
--       2.. merchants
--
-- Returns {} while the shard is fenced; else {the user's packed spans or '', averages removed overall (0 or 1), merchants whose averages had the user,
-- version of the shard's part of the report, which does not have the user}.

if redis.call('HEXISTS', KEYS[1], 'fence') == 1 then
  return {} -- another generation, which may have the user, is about to become the live one
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function set_version(key, field)
  local version = math.max(tonumber(redis.call('HGET', key, field) or 0) + 1, now)
  redis.call('HSET', key, field, string.format('%.0f', version))
  return version
end

local user = ARGV[1]
local spans = redis.call('HGET', KEYS[2], user) or ''
local removed = redis.call('HDEL', KEYS[2], user)
local overall = redis.call('HDEL', KEYS[3], user)
local merchants = 0
for key = 5, #KEYS do
  if redis.call('HDEL', KEYS[key], user) == 1 then
    merchants = merchants + 1
    set_version(KEYS[4], ARGV[key - 3])
  end
end
local version
if removed + overall + merchants > 0 then
  redis.call('HINCRBY', KEYS[1], 'commits', 1) -- what others have read of the user is void
  version = set_version(KEYS[1], 'version')
else
  version = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
end
return { spans, overall, merchants, version }
