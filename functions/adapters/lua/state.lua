-- state: read how shards' parts of the report stand, at one moment and without reading any of them.
--
-- KEYS  for each shard:
--       1 ledger    hash    the shard's counters
--       2 events    stream  the shard's pending log
--       3 versions  hash    merchant -> moment of the last change of its averages, microseconds
--       4 averages  hash    user -> packed totals: the part that is asked for
-- ARGV  1  merchant whose averages these are, '' where they are of all merchants
--
-- Returns for each shard {users in the averages, the merchant's version or '', id of the oldest pending entry or '', id
-- of the newest or '', ledger field, value, ...}.

local function id_of(entries)
  return entries[1] and entries[1][1] or ''
end
local replies = {}
for at = 1, #KEYS, 4 do
  local reply = {
    redis.call('HLEN', KEYS[at + 3]),
    ARGV[1] ~= '' and redis.call('HGET', KEYS[at + 2], ARGV[1]) or '',
    id_of(redis.call('XRANGE', KEYS[at + 1], '-', '+', 'COUNT', 1)),
    id_of(redis.call('XREVRANGE', KEYS[at + 1], '+', '-', 'COUNT', 1)),
  }
  for _, value in ipairs(redis.call('HGETALL', KEYS[at])) do
    reply[#reply + 1] = value
  end
  replies[#replies + 1] = reply
end
return replies
