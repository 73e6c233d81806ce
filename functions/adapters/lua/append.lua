-- append: write events to shards, once per (source, id). Each shard's part stands for itself.
--
-- On a Redis Cluster a call has one part, since each shard may be on another node; elsewhere all parts go in one call,
-- which spares the others' way in and out.
--
-- KEYS  five a part:
--       1 events  stream  the shard's pending log
--       2 ledger  hash    the shard's counters
--       3-5 seen  set     digests of the dedupe windows: the one before, the current one, and the one after (a caller's
--                         clock may run behind another's)
-- ARGV  1  seconds that the current window's set lives on
--       2  1 where the caller waits for disk or replicas behind this call, else 0
--       3  number of shards by which the caller chose these
--       4  bytes of one digest
--       then four a part:
--       1  the packed entry
--       2  number of events in it
--       3  events already known to be duplicates, to be added to the ledger with this write
--       4  the digests joined, one an event; fewer where events have no id, none at all for those without
--
-- Returns one answer a part:
--   {1, id of the entry, events pending before, events pending after}: written;
--   {0, positions (from 1) of digests ...}: these are in a window, and nothing of the part was written;
--   {2}: the store is laid out otherwise, or is being so; nothing of the part was written;
--   {3, error}: the part met an error, as another part need not.
-- Key and event in one atomic step: a dedupe key never outlives a lost event.

local ttl_s, waits, shards, size = ARGV[1], ARGV[2] == '1', ARGV[3], tonumber(ARGV[4])
local BATCH = 1000 -- Lua passes a few thousand arguments at most

local function append(part)
  local events_key, ledger_key, current = KEYS[5 * part + 1], KEYS[5 * part + 2], KEYS[5 * part + 4]
  local entry, events = ARGV[4 * part + 5], tonumber(ARGV[4 * part + 6])
  local duplicates, digests = tonumber(ARGV[4 * part + 7]), ARGV[4 * part + 8]

  local books = redis.call('HMGET', ledger_key, 'shards', 'folded', 'erased')
  if books[1] and books[1] ~= shards then -- there since the first resharding
    return { 2 }
  end

  local count = #digests / size
  local batches = {} -- one call cuts a whole batch: half of what a call of string.sub for each would take
  for from = 1, count, BATCH do
    local many = math.min(BATCH, count - from + 1)
    local members = { struct.unpack(string.rep('c' .. size, many), digests, (from - 1) * size + 1) }
    members[many + 1] = nil -- the place behind the last one
    batches[#batches + 1] = members
  end

  local known, seen = {}, { 0 }
  for window = 5 * part + 3, 5 * part + 5 do
    local key = KEYS[window]
    if count > 0 and (key == current or redis.call('EXISTS', key) == 1) then -- the current one nearly always exists
      for number, members in ipairs(batches) do
        local found, before = redis.call('SMISMEMBER', key, unpack(members)), (number - 1) * BATCH
        for i = 1, #found do
          if found[i] == 1 and not known[before + i] then
            known[before + i] = true
            seen[#seen + 1] = before + i
          end
        end
      end
    end
  end
  if #seen > 1 then
    if waits then
      -- WAITAOF waits for the writes of its own connection: this one stands behind the write of what is known.
      redis.call('HINCRBY', ledger_key, 'duplicate', 0)
    end
    return seen
  end

  local id = redis.call('XADD', events_key, '*', 'e', entry)
  for _, members in ipairs(batches) do
    redis.call('SADD', current, unpack(members))
  end
  if count > 0 then
    redis.call('EXPIRE', current, ttl_s)
  end
  local accepted = redis.call('HINCRBY', ledger_key, 'accepted', events)
  if duplicates > 0 then
    redis.call('HINCRBY', ledger_key, 'duplicate', duplicates)
  end
  local pending = accepted - tonumber(books[2] or 0) - tonumber(books[3] or 0)
  return { 1, id, pending - events, pending }
end

local answers = {}
for part = 0, #KEYS / 5 - 1 do
  local done, answer = pcall(append, part)
  if not done then
    -- A table from version 7 on; before, a text with the place in the script before it.
    local text = type(answer) == 'table' and answer.err or string.match(answer, '%-(%u+ .*)') or answer
    answer = { 3, text }
  end
  answers[part + 1] = answer
end
return answers
