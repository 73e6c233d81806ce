-- quarantine_remove: take events out of the quarantine.
--
-- KEYS  as quarantine_add
-- ARGV  1     why, a counter in the books: redriven, erased, or discarded
--       2     another one, of one erasure; '' where there is none
--       3...  ids of entries
--
-- Returns how many of them were there.

local OVERHEAD_BYTES = 320 -- as in quarantine_add

local removed = 0
for i = 3, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    local fields = entry[2]
    local bytes = #fields[6] + OVERHEAD_BYTES
    redis.call('XDEL', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[2], fields[2])
    redis.call('HDEL', KEYS[3], ARGV[i])
    local moment, number = string.match(ARGV[i], '(%d+)-(%d+)')
    redis.call('ZREM', KEYS[6], fields[4] .. '\0' .. moment .. '-' .. string.rep('0', 20 - #number) .. number)
    if redis.call('HINCRBY', KEYS[4], 'e:' .. fields[4], -1) <= 0 then
      redis.call('HDEL', KEYS[4], 'e:' .. fields[4], 'b:' .. fields[4])
    else
      redis.call('HINCRBY', KEYS[4], 'b:' .. fields[4], -bytes)
    end
    redis.call('HINCRBY', KEYS[5], 'bytes', -bytes)
    removed = removed + 1
  end
end
if removed > 0 then
  redis.call('HINCRBY', KEYS[5], ARGV[1], removed)
  if ARGV[2] ~= '' then
    redis.call('HINCRBY', KEYS[5], ARGV[2], removed)
  end
end
return removed
