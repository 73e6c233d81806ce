-- generation: begin another generation of the state, make it the live one, or give it up. The one place where that is
-- decided, whoever asks.
--
-- KEYS  1 layout  hash  number of shards, the live generation, the highest one, and the one that is being built
-- ARGV  1  begin, switch or cancel
--       2  the generation, for switch and cancel
--       3  number of shards from the switch on, '' where it stays
--
-- begin returns the new generation; switch and cancel return the one that is live then. A generation that is given up, or
-- that another one has been begun after, never becomes live.

local act, generation = ARGV[1], ARGV[2]
if act == 'begin' then
  local begun = redis.call('HINCRBY', KEYS[1], 'generations', 1)
  redis.call('HSET', KEYS[1], 'building', begun, 'building_since', redis.call('TIME')[1])
  return begun
end
if redis.call('HGET', KEYS[1], 'building') == generation then
  redis.call('HDEL', KEYS[1], 'building', 'building_since')
  if act == 'switch' then
    redis.call('HSET', KEYS[1], 'generation', generation)
    if ARGV[3] ~= '' then
      redis.call('HSET', KEYS[1], 'shards', ARGV[3])
    end
  end
end
return tonumber(redis.call('HGET', KEYS[1], 'generation') or 0)
