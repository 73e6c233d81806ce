-- append: write the events of one request for one shard, once per (source, id).
--
-- KEYS  1 events  stream  the shard's pending log
--       2 ledger  hash    the shard's counters
--       3-5 seen  set     digests of the dedupe windows: the one before, the current one, and the one after (a caller's
--                         clock may run behind another's)
-- ARGV  1  the packed entry
--       2  number of events in it
--       3  seconds that the current window's set lives on
--       4  events already known to be duplicates, to be added to the ledger with this write
--       5  bytes of one digest
--       6  the digests joined, one an event; fewer where events have no id, none at all for those without
--       7  1 where the caller waits for disk or replicas behind this call, else 0
--       8  number of shards by which the caller chose this one
--
-- Where the store is laid out otherwise, or is being so: writes nothing, returns {2}.
-- Where some digest is in a window: writes no event, returns {0, positions (from 1) of those digests ...}.
-- Else: writes, returns {1, id of the entry, events pending before, events pending after}.
-- Key and event in one atomic step: a dedupe key never outlives a lost event.

local shards = redis.call('HGET', KEYS[2], 'shards') -- there since the first resharding
if shards and shards ~= ARGV[8] then
  return { 2 }
end

local size, digests = tonumber(ARGV[5]), ARGV[6]
local count = #digests / size
local members = {}
for i = 1, count do
  members[i] = string.sub(digests, (i - 1) * size + 1, i * size)
end

local BATCH = 1000 -- Lua passes a few thousand arguments at most
local function batches()
  local from = 1 - BATCH
  return function()
    from = from + BATCH
    if from <= count then
      return from, math.min(from + BATCH - 1, count)
    end
  end
end

local known, seen = {}, { 0 }
for window = 3, 5 do
  if count > 0 and redis.call('EXISTS', KEYS[window]) == 1 then
    for from, to in batches() do
      for i, is_member in ipairs(redis.call('SMISMEMBER', KEYS[window], unpack(members, from, to))) do
        if is_member == 1 and not known[from + i - 1] then
          known[from + i - 1] = true
          seen[#seen + 1] = from + i - 1
        end
      end
    end
  end
end
if #seen > 1 then
  if ARGV[7] == '1' then
    -- WAITAOF waits for the writes of its own connection: this one stands behind the write of what is known.
    redis.call('HINCRBY', KEYS[2], 'duplicate', 0)
  end
  return seen
end

local events, duplicates = tonumber(ARGV[2]), tonumber(ARGV[4])
local id = redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])
for from, to in batches() do
  redis.call('SADD', KEYS[4], unpack(members, from, to))
end
if count > 0 then
  redis.call('EXPIRE', KEYS[4], ARGV[3])
end
local accepted = redis.call('HINCRBY', KEYS[2], 'accepted', events)
if duplicates > 0 then
  redis.call('HINCRBY', KEYS[2], 'duplicate', duplicates)
end
local gone = redis.call('HMGET', KEYS[2], 'folded', 'erased')
local pending = accepted - tonumber(gone[1] or 0) - tonumber(gone[2] or 0)
return { 1, id, pending - events, pending }
