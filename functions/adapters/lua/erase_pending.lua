-- erase_pending: put other contents into some entries of a shard's log, and leave some out, unless the shard was changed
-- since they were read. Every other entry stays as it is, in its place and under its id.
--
-- KEYS  1 ledger   hash    the shard's counters
--       2 events   stream  the shard's pending log
--       3 erasing  stream  where the new log is made; not there before and after
-- ARGV  1  commits that the ledger showed: the fencing token
--       2  events that the log has fewer afterwards
--       3.. id and new content of an entry, in turn; '' leaves the entry out
--
-- Returns 1 where it wrote, 0 where it changed nothing.
-- An entry's content cannot be changed in place, so the log is made anew; its last id stays, also where no entry does, for
-- no later entry may come before what is folded.

local token = redis.call('HGET', KEYS[1], 'commits') or '0'
if token ~= ARGV[1] then
  return 0
end
local contents = {}
for at = 3, #ARGV, 2 do
  if #redis.call('XRANGE', KEYS[2], ARGV[at], ARGV[at]) == 0 then
    return 0
  end
  contents[ARGV[at]] = ARGV[at + 1]
end

local last
local stream = redis.call('XINFO', 'STREAM', KEYS[2])
for at = 1, #stream, 2 do
  if stream[at] == 'last-generated-id' then
    last = stream[at + 1]
  end
end
redis.call('DEL', KEYS[3])
local from, some = '-', nil
repeat
  some = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', 500)
  for _, entry in ipairs(some) do
    local content = contents[entry[1]]
    if not content then
      redis.call('XADD', KEYS[3], entry[1], unpack(entry[2]))
    elseif content ~= '' then
      redis.call('XADD', KEYS[3], entry[1], 'e', content)
    end
    from = '(' .. entry[1]
  end
until #some < 500
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('XADD', KEYS[3], last, 'e', '')
  redis.call('XDEL', KEYS[3], last)
end
redis.call('XSETID', KEYS[3], last)
redis.call('RENAME', KEYS[3], KEYS[2])
redis.call('HINCRBY', KEYS[1], 'erased', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'commits', 1)
return 1
