-- commit: replace what a task read of one shard by what it made of it, unless something else changed the shard since.
--
-- KEYS  1 ledger     hash    the shard's counters
--       2 events     stream  the shard's pending log
--       3 spans      hash    user -> packed spans
--       4 merchants  set     merchants that have an averages hash here
--       5 averages   hash    user -> packed seconds and sessions
--       6.. averages of one merchant each, hash, in the order of ARGV's merchants
-- ARGV  1  commits that the task saw in the ledger: the fencing token
--       2  id of the last log entry that it folded; '' where it folded none of the log (a backfill)
--       3  number of events in the entries it folded
--       4  1 where the report changes, else 0
--       5  number of merchants M, then their M names
--       then for spans, averages and each merchant's averages: number of pairs, then the pairs
--
-- Returns {1, commits, version} where it wrote, {0, reason} where it changed nothing: 'changed' when another commit came
-- first, 'log lost' when the log no longer holds what the task folded (the store was set back).

local token = redis.call('HGET', KEYS[1], 'commits') or '0'
if token ~= ARGV[1] then
  return { 0, 'changed' }
end
local folded_to, events = ARGV[2], tonumber(ARGV[3])
if folded_to ~= '' then
  local accepted = tonumber(redis.call('HGET', KEYS[1], 'accepted') or 0)
  local folded = tonumber(redis.call('HGET', KEYS[1], 'folded') or 0)
  if accepted - folded < events or #redis.call('XRANGE', KEYS[2], folded_to, folded_to) == 0 then
    return { 0, 'log lost' }
  end
  -- The trimming comes first: a store that is full refuses a script's first write where it takes memory, not its later
  -- ones, and folding is what frees memory.
  -- MINID keeps the entry itself, which then goes by name: its id counts in 64 bits, which Lua cannot add 1 to.
  redis.call('XTRIM', KEYS[2], 'MINID', folded_to)
  redis.call('XDEL', KEYS[2], folded_to)
end

local at = 6
local merchants = tonumber(ARGV[5])
for _ = 1, merchants do
  redis.call('SADD', KEYS[4], ARGV[at])
  at = at + 1
end

local BATCH = 2000 -- arguments; Lua passes a few thousand at most
local function write(key)
  local last = at + 2 * tonumber(ARGV[at])
  at = at + 1
  while at <= last do
    local to = math.min(at + BATCH - 1, last)
    redis.call('HSET', key, unpack(ARGV, at, to))
    at = to + 1
  end
end
write(KEYS[3])
write(KEYS[5])
for merchant = 1, merchants do
  write(KEYS[5 + merchant])
end

if folded_to ~= '' then
  redis.call('HINCRBY', KEYS[1], 'folded', events)
  redis.call('HSET', KEYS[1], 'folded_to', folded_to)
end
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
if ARGV[4] == '1' then
  -- The moment in microseconds, and always later than the last one: a store set back to an older state never gives the
  -- same version to another content.
  local time = redis.call('TIME')
  version = math.max(version + 1, time[1] * 1000000 + time[2])
  redis.call('HSET', KEYS[1], 'version', string.format('%.0f', version))
end
return { 1, redis.call('HINCRBY', KEYS[1], 'commits', 1), version }
