-- begin_shard: make a generation's part of a shard empty, to be built from the archive's files as they are.
--
-- KEYS  1 built  hash  the generation's counters
--       2 ledger  hash  the shard's
--       3..  all other keys of the generation in this shard
-- ARGV  1  commits that the generation showed: the fencing token
--       2  the shard's swaps: the generation is built from the files that were on record then
--       3  the generation
--
-- Returns 1 where it is empty, 0 where somebody else has gone on, or where it is finished, -1 where it was dropped.

if tonumber(redis.call('HGET', KEYS[2], 'dropped') or -1) >= tonumber(ARGV[3]) then
  return -1
end
if (redis.call('HGET', KEYS[1], 'commits') or '0') ~= ARGV[1] or redis.call('HEXISTS', KEYS[1], 'sealed') == 1 then
  return 0
end
for key = 3, #KEYS do
  redis.call('UNLINK', KEYS[key])
end
redis.call('HINCRBY', KEYS[1], 'commits', 1) -- never the same number for another content
redis.call('HDEL', KEYS[1], 'version') -- no averages: what they come to is known
redis.call('HSET', KEYS[1], 'swaps', ARGV[2], 'begun', 1)
return 1
