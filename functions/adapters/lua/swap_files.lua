-- swap_files: put other files on record in the place of some of the archive's, unless another swap came first.
--
-- KEYS  1 ledger   hash  the shard's counters
--       2 archive  hash  path of a file -> what is on record of it
--       3 erasures hash  what was taken out of this shard, by user and by kind, until a receipt was given
-- ARGV  1  swaps that the ledger showed: the fencing token
--       2  events of log that the new files have fewer, since their user was erased
--       3  flyer events of history that they have fewer, likewise
--       4  how the fields of `erasures` begin, '' where no user was erased
--       5  number of paths that go
--       6.. those paths, then path and record of each file that comes, in turn
--
-- Returns {1, swaps} where it wrote, {0, 'changed'} where it changed nothing.

local swaps = redis.call('HGET', KEYS[1], 'swaps') or '0'
if swaps ~= ARGV[1] then
  return { 0, 'changed' }
end
local last = 5 + tonumber(ARGV[5])
for at = 6, last do
  if redis.call('HEXISTS', KEYS[2], ARGV[at]) == 0 then
    return { 0, 'changed' }
  end
end
for at = 6, last do
  redis.call('HDEL', KEYS[2], ARGV[at])
end
for at = last + 1, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
end
for at, name in ipairs({ 'archived', 'history_archived' }) do
  local fewer = tonumber(ARGV[at + 1])
  if fewer > 0 then
    redis.call('HINCRBY', KEYS[1], name, -fewer)
    redis.call('HINCRBY', KEYS[1], name .. '_erased', fewer)
    redis.call('HINCRBY', KEYS[3], ARGV[4] .. ':' .. name .. '_events', fewer)
  end
end
if ARGV[4] ~= '' then
  redis.call('HINCRBY', KEYS[3], ARGV[4] .. ':archive_files_rewritten', 1)
end
redis.call('HSET', KEYS[1], 'loose', 0)
return { 1, redis.call('HINCRBY', KEYS[1], 'swaps', 1) }
