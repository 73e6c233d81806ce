-- commit: replace what a task read of one shard by what it made of it, unless something else changed the shard since.
--
-- Much is written by commands of its own, in one transaction with this script before and after them, since a script makes
-- of each text one of Lua's first. A transaction has no "unless". So before it the script moves the hashes aside where they
-- may be changed, and after it back, where it has moved them; what was written aside without that is deleted.
--
-- KEYS  1 ledger     hash    the shard's counters
--       2 events     stream  the shard's pending log
--       3 spans      hash    user -> packed spans
--       4 merchants  set     merchants that have an averages hash here
--       5 averages   hash    user -> packed totals
--       6 versions   hash    merchant -> moment of the last change of its averages, microseconds
--       7 backfilled hash   backfill id -> last place of the shard's users that is counted
--       8 archive    hash    path of a file of the archive -> what is on record of it
--       9 aside    string  within a transaction only: 1 where the hashes are moved aside; `<its name>:<n>` is where KEYS[n] then is
--       10 summaries  hash  merchant, or '' for all of them, -> what the averages come to, and their version
--       11.. averages of one merchant each, hash, in the order of ARGV's merchants
-- ARGV  1  commits that the task saw in the ledger: the fencing token
--       2  id of the last log entry that it folded; '' where it folded none of the log (a backfill)
--       3  number of events in the entries it folded, or in the part of a backfill
--       4  1 where the report changes, else 0
--       5  pairs of spans; pairs are names and values in turn, each a MessagePack text: one argument where thousands would
--          each be parsed and copied once more
--       6  pairs of averages
--       7  id of the backfill that the change comes from, '' where it comes from the log
--       8  the place up to which this commit counts that backfill's users
--       9  path of the file that holds the events of this commit, '' where nothing is archived
--       10 what is on record of it
--       11 'whole': all in one call; 'before' and 'after': what a transaction begins and ends with, without any pairs
--       12 pairs of a merchant, or '', and what the averages then come to
--       13.. name of a merchant and the pairs of its averages, in turn
--
-- Returns {1, commits, version} where it wrote, {0, reason} where it changed nothing: 'changed' when another commit came
-- first, 'fenced' while a rebuild switches to its own state, 'log lost' when the log no longer holds what the task folded (the store was set back).

local step = ARGV[11]
local function each_hash(call)
  call(KEYS[3], KEYS[9] .. ':3')
  call(KEYS[5], KEYS[9] .. ':5')
  for key = 11, #KEYS do
    call(KEYS[key], KEYS[9] .. ':' .. key)
  end
end
local function move(from, to)
  redis.call('UNLINK', to)
  if redis.call('EXISTS', from) == 1 then
    redis.call('RENAME', from, to)
  end
end

local folded_to, events = ARGV[2], tonumber(ARGV[3])
if step == 'after' then
  local moved = redis.call('GET', KEYS[9])
  redis.call('DEL', KEYS[9])
  if moved ~= '1' then
    each_hash(function(_, aside) redis.call('UNLINK', aside) end)
    return { 0, 'changed' }
  end
  each_hash(function(hash, aside) move(aside, hash) end)
else
  local token = redis.call('HGET', KEYS[1], 'commits') or '0'
  if token ~= ARGV[1] then
    return { 0, 'changed' }
  end
  if redis.call('HEXISTS', KEYS[1], 'fence') == 1 then
    return { 0, 'fenced' } -- another generation is about to become the live one
  end
  if folded_to ~= '' then
    local held = redis.call('HMGET', KEYS[1], 'accepted', 'folded', 'erased')
    local pending = tonumber(held[1] or 0) - tonumber(held[2] or 0) - tonumber(held[3] or 0)
    if pending < events or #redis.call('XRANGE', KEYS[2], folded_to, folded_to) == 0 then
      return { 0, 'log lost' }
    end
  end
  if step == 'before' then
    -- Nothing is moved unless all that moves it back is allowed.
    redis.call('DEL', KEYS[9])
    redis.call('SET', KEYS[9], 0)
    redis.call('GET', KEYS[9])
    each_hash(move)
    redis.call('SET', KEYS[9], 1)
    return { 1 }
  end
end
if folded_to ~= '' then
  -- The trimming comes first: a store that is full refuses a script's first write where it takes memory, not its later
  -- ones, and folding is what frees memory.
  -- MINID keeps the entry itself, which then goes by name: its id counts in 64 bits, which Lua cannot add 1 to.
  redis.call('XTRIM', KEYS[2], 'MINID', folded_to)
  redis.call('XDEL', KEYS[2], folded_to)
end

local BATCH = 2000 -- arguments; Lua passes a few thousand at most
local function write(key, texts)
  local at = 0
  local function write_batch(next_at, ...) -- straight from the bytes to the call: a table of them costs a fifth more
    at = next_at
    redis.call('HSET', key, ...)
  end
  while at >= 0 and at < #texts do
    write_batch(cmsgpack.unpack_limit(texts, BATCH, at))
  end
end
-- The moment in microseconds, and always later than the last one: a store set back to an older state never gives the same
-- version to another content.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function set_version(key, field)
  local version = math.max(tonumber(redis.call('HGET', key, field) or 0) + 1, now)
  redis.call('HSET', key, field, string.format('%.0f', version))
  return version
end

write(KEYS[3], ARGV[5])
write(KEYS[5], ARGV[6])
local versions = {}
for key = 11, #KEYS do
  local merchant = ARGV[2 * key - 9]
  redis.call('SADD', KEYS[4], merchant)
  write(KEYS[key], ARGV[2 * key - 8])
  versions[merchant] = set_version(KEYS[6], merchant)
end

if folded_to ~= '' then
  redis.call('HINCRBY', KEYS[1], 'folded', events)
  redis.call('HSET', KEYS[1], 'folded_to', folded_to)
end
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[7], ARGV[7], ARGV[8])
  redis.call('HINCRBY', KEYS[1], 'backfilled', events)
end
if ARGV[9] ~= '' then
  redis.call('HSET', KEYS[8], ARGV[9], ARGV[10])
  redis.call('HINCRBY', KEYS[1], ARGV[7] == '' and 'archived' or 'history_archived', events)
  redis.call('HINCRBY', KEYS[1], 'loose', 1)
end
local version
if ARGV[4] == '1' then
  version = set_version(KEYS[1], 'version')
  versions[''] = version
else
  version = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
end
local at = 0
while at >= 0 and at < #ARGV[12] do
  local next_at, merchant, counts = cmsgpack.unpack_limit(ARGV[12], 2, at)
  redis.call('HSET', KEYS[10], merchant, string.format('%.0f:', versions[merchant]) .. counts)
  at = next_at
end
return { 1, redis.call('HINCRBY', KEYS[1], 'commits', 1), version }
