-- archive_books: read what is on record of the archive's files, and the books, of one shard at one moment.
--
-- KEYS  1 ledger   hash    the shard's counters
--       2 events   stream  the shard's pending log
--       3 archive  hash    path of a file -> what is on record of it
--
-- Returns {ledger's reply as the script `ledger` has it, {path, record, ...}}.

local function id_of(entries)
  return entries[1] and entries[1][1] or ''
end
local books = {
  id_of(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)),
  id_of(redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)),
}
for _, value in ipairs(redis.call('HGETALL', KEYS[1])) do
  books[#books + 1] = value
end
return { books, redis.call('HGETALL', KEYS[3]) }
