-- erase_pending: make a shard's log anew with other contents in some entries, or without them, in steps of a bounded size,
-- while events come in and are folded. Every other entry stays as it is, in its place and under its id.
--
-- KEYS  1 ledger    hash    the shard's counters
--       2 events    stream  the shard's pending log
--       3 erasing   stream  the new log, in the making
--       4 counts    stream  id of an entry with fewer events -> events that the log has fewer up to and with it
--       5 step      hash    token: who makes it; to: id up to which it has all; fewer: events; at: last step, microseconds
--       6 erasures  hash    what was taken out of this shard, by user and by kind, until a receipt was given
-- ARGV  1  begin, copy or finish
--       2  token
--       begin:   3 microseconds after whose last step another one is taken to be gone
--       copy:    3 id up to which to copy; 4.. id of an entry, its new content ('' leaves the entry out) and how many
--                events it has fewer, in turn, in the order of the log
--       finish:  3 most entries to copy; 4 bytes after which to stop; 5 the field of `erasures`
--
-- Returns 0 where another one is at it, has been, or all was forgotten since it took too long: nothing was changed, begin
-- again; 1 where the step was done; finish: 1 where there is more to copy, 2 where the new log is the log.
--
-- An entry's content cannot be changed in place. What is folded meanwhile goes out of the new log too; what comes in after
-- the last copy goes in as it is, by finish, which is also the step that makes the new log the log: there accepted =
-- folded + pending + erased holds before and after. A task that has read the old log cannot commit that any more.

local act, token = ARGV[1], ARGV[2]
local KEPT_MS, LONGER_MS = 600000, 1200000 -- `step` always goes first: there is none without the streams it tells of
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local held = redis.call('HMGET', KEYS[5], 'token', 'to', 'fewer', 'at')
if act == 'begin' then
  if held[1] and now - tonumber(held[4]) < tonumber(ARGV[3]) then
    return 0
  end
  redis.call('HSET', KEYS[5], 'token', token, 'to', '0-0', 'fewer', 0, 'at', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[5], KEPT_MS)
  redis.call('UNLINK', KEYS[3], KEYS[4])
  return 1
end
if held[1] ~= token then
  return 0
end

local to, fewer = held[2], tonumber(held[3])
local contents, counts = {}, {}
local function copy(entry)
  local id, fields = entry[1], entry[2]
  local content = contents[id]
  if not content then
    redis.call('XADD', KEYS[3], id, unpack(fields))
  else
    fewer = fewer + counts[id]
    redis.call('XADD', KEYS[4], id, 'n', fewer)
    if content ~= '' then
      redis.call('XADD', KEYS[3], id, 'e', content)
    end
  end
  to = id
  return #fields[2]
end

local most_entries, most_bytes, upto = math.huge, math.huge, ARGV[3]
if act == 'copy' then
  for at = 4, #ARGV, 3 do
    contents[ARGV[at]], counts[ARGV[at]] = ARGV[at + 1], tonumber(ARGV[at + 2])
  end
else
  most_entries, most_bytes, upto = tonumber(ARGV[3]), tonumber(ARGV[4]), '+'
end
local entries, bytes, all = 0, 0, false
while not all and entries < most_entries and bytes < most_bytes do
  local some = redis.call('XRANGE', KEYS[2], '(' .. to, upto, 'COUNT', 20)
  for _, entry in ipairs(some) do
    bytes = bytes + copy(entry)
  end
  entries = entries + #some
  all = #some < 20
end

local folded_to = redis.call('HGET', KEYS[1], 'folded_to')
local function trim(key)
  redis.call('XTRIM', key, 'MINID', folded_to)
  redis.call('XDEL', key, folded_to)
end
if folded_to then
  trim(KEYS[3])
end
if act == 'copy' or not all then
  if act == 'copy' then
    to = upto -- also where its end is folded by now
  end
  redis.call('HSET', KEYS[5], 'to', to, 'fewer', fewer, 'at', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[5], KEPT_MS)
  redis.call('PEXPIRE', KEYS[3], LONGER_MS)
  redis.call('PEXPIRE', KEYS[4], LONGER_MS)
  return 1
end

if redis.call('EXISTS', KEYS[2]) == 0 then -- the shard is no more, since the store was laid out anew
  redis.call('UNLINK', KEYS[3], KEYS[4], KEYS[5])
  return 0
end
-- The last id stays, also where no entry does: no later entry may come before what is folded.
local last
local stream = redis.call('XINFO', 'STREAM', KEYS[2])
for at = 1, #stream, 2 do
  if stream[at] == 'last-generated-id' then
    last = stream[at + 1]
  end
end
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('XADD', KEYS[3], last, 'e', '')
  redis.call('XDEL', KEYS[3], last)
end
redis.call('XSETID', KEYS[3], last)
redis.call('PERSIST', KEYS[3])
redis.call('UNLINK', KEYS[2]) -- which another thread of the store frees
redis.call('RENAME', KEYS[3], KEYS[2])
local folded = folded_to and redis.call('XREVRANGE', KEYS[4], folded_to, '-', 'COUNT', 1)[1]
local erased = fewer - (folded and tonumber(folded[2][2]) or 0)
redis.call('UNLINK', KEYS[4], KEYS[5])
redis.call('HINCRBY', KEYS[1], 'erased', erased)
redis.call('HINCRBY', KEYS[1], 'commits', 1)
if erased > 0 then
  redis.call('HINCRBY', KEYS[6], ARGV[5], erased)
end
return 2
