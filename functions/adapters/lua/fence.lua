-- fence: let no commit through, since another generation holds all that this shard's has, unless either has changed since.
--
-- KEYS  1 ledger  hash  the shard's counters
--       2 built   hash  the other generation's
-- ARGV  1  commits that the ledger showed
--       2  swaps that it showed
--       3  commits that the other generation showed
--       4  the other generation
--
-- Returns 1 where the fence stands, -1 where the generation was dropped, else 0. It stands until `lift_fence`.

if tonumber(redis.call('HGET', KEYS[1], 'dropped') or -1) >= tonumber(ARGV[4]) then
  return -1
end
if (redis.call('HGET', KEYS[1], 'commits') or '0') ~= ARGV[1] or (redis.call('HGET', KEYS[1], 'swaps') or '0') ~= ARGV[2] then
  return 0
end
if (redis.call('HGET', KEYS[2], 'commits') or '0') ~= ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[1], 'fence', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'commits', 1)
redis.call('HINCRBY', KEYS[2], 'commits', 1)
redis.call('HSET', KEYS[2], 'sealed', 1)
return 1
