-- keep_summaries: keep what averages of a shard come to, unless they have changed since they were read.
--
-- KEYS  1 ledger     hash  the shard's counters
--       2 versions   hash  merchant -> moment of the last change of its averages, microseconds
--       3 summaries  hash  merchant, or '' for all of them, -> its packed summary
-- ARGV  1..  merchant or '', the version of the averages that were read, their packed summary, in turn
--
-- Returns how many were kept.

local kept = 0
for at = 1, #ARGV, 3 do
  local merchant, version = ARGV[at], ARGV[at + 1]
  local now
  if merchant == '' then
    now = redis.call('HGET', KEYS[1], 'version')
  else
    now = redis.call('HGET', KEYS[2], merchant)
  end
  if now == version then
    redis.call('HSET', KEYS[3], merchant, ARGV[at + 2])
    kept = kept + 1
  end
end
return kept
