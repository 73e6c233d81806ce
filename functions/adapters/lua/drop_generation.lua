-- drop_generation: let nobody write to a shard's part of a generation any more; what it holds can then be deleted in steps.
--
-- KEYS  1 ledger  hash  the shard's counters
--       2 built   hash  the generation's
-- ARGV  1  the generation; those before it are not built any more either
--       2  1 where the shard is one of the store's, 0 where it is not, or perhaps no more: then nothing is noted of a shard
--          that never was
--
-- A commit needs what `begin_shard` wrote to `built`, and that looks at `dropped`.

redis.call('UNLINK', KEYS[2])
local dropped = tonumber(redis.call('HGET', KEYS[1], 'dropped') or -1)
if dropped < tonumber(ARGV[1]) and (ARGV[2] == '1' or redis.call('EXISTS', KEYS[1]) == 1) then
  redis.call('HSET', KEYS[1], 'dropped', ARGV[1])
end
return 1
