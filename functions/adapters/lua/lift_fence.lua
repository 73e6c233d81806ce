-- lift_fence: let commits through again.
--
-- KEYS  1 ledger     hash  the shard's counters
--       2 built      hash  those of the generation that has been built
--       3 summaries  hash  of that generation: merchant, or '' for all of them, -> what the averages come to, and their version
-- ARGV  1  the generation for which the fence stands
--       2  1 where it is live now, and the shard's part of the report so another version, else 0
--
-- Returns 1 where the fence stood, else 0.

if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then
  return 0
end
redis.call('HDEL', KEYS[1], 'fence')
redis.call('HINCRBY', KEYS[1], 'commits', 1)
if ARGV[2] == '1' then
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local version = math.max(tonumber(redis.call('HGET', KEYS[1], 'version') or 0) + 1, now)
  redis.call('HSET', KEYS[1], 'version', string.format('%.0f', version))
  -- What all users come to is of the averages as they were built, and these go by the shard's version now.
  local was = (redis.call('HGET', KEYS[2], 'version') or '') .. ':'
  local kept = redis.call('HGET', KEYS[3], '')
  if kept and kept:sub(1, #was) == was then
    redis.call('HSET', KEYS[3], '', string.format('%.0f:', version) .. kept:sub(#was + 1))
  end
end
return 1
