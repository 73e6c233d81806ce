-- state: read how one shard's part of the report stands, at one moment and without reading any of it.
--
-- KEYS  1 ledger    hash    the shard's counters
--       2 events    stream  the shard's pending log
--       3 versions  hash    merchant -> moment of the last change of its averages, microseconds
--       4 averages  hash    user -> packed totals: the part that is asked for
-- ARGV  1  merchant whose averages these are, '' where they are of all merchants
--
-- Returns {users in the averages, the merchant's version or '', id of the oldest pending entry or '', id of the newest
-- or '', ledger field, value, ...}.

local function id_of(entries)
  return entries[1] and entries[1][1] or ''
end
local reply = {
  redis.call('HLEN', KEYS[4]),
  ARGV[1] ~= '' and redis.call('HGET', KEYS[3], ARGV[1]) or '',
  id_of(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)),
  id_of(redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)),
}
for _, value in ipairs(redis.call('HGETALL', KEYS[1])) do
  reply[#reply + 1] = value
end
return reply
