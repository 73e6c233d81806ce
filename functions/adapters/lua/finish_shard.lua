-- finish_shard: put the books and the archive's records of a shard as a resharding has made them in the place of the old
-- ones, once.
--
-- KEYS  1 ledger   hash  the shard's counters
--       2 archive  hash  path of a file of the archive -> what is on record of it
--       3 anew     hash  the same, as it shall be; not there where there is no file
-- ARGV  1  the generation that is live since the resharding
--       2.. fields of the ledger and their values, in turn; `folded_to` and what is not named stay
--
-- Returns 1 where it wrote, 0 where that had been done.

if redis.call('HGET', KEYS[1], 'laid') == ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('RENAME', KEYS[3], KEYS[2])
end
redis.call('HDEL', KEYS[1], 'fence')
redis.call('HSET', KEYS[1], 'laid', ARGV[1], unpack(ARGV, 2))
return 1
