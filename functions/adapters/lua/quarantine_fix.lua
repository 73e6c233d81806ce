-- quarantine_fix: put a corrected event beside one that is in the quarantine.
--
-- KEYS  as quarantine_add
-- ARGV  1  id of the entry
--       2  the corrected event
--
-- Returns 1; 0 where there is no such entry (any more), and then nothing is written.

if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
return 1
