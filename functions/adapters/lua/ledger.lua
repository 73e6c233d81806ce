-- ledger: read the books of one shard at one moment.
--
-- KEYS  1 ledger  hash    the shard's counters
--       2 events  stream  the shard's pending log
--
-- Returns {id of the oldest pending entry or '', id of the newest or '', field, value, ...}.
-- In a script, since XRANGE would send whole entries where only their ids are wanted.

local function id_of(entries)
  return entries[1] and entries[1][1] or ''
end
local reply = {
  id_of(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)),
  id_of(redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)),
}
for _, value in ipairs(redis.call('HGETALL', KEYS[1])) do
  reply[#reply + 1] = value
end
return reply
