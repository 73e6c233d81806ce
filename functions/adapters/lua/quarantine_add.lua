-- quarantine_add: keep rejected events, each once, within caps of number and bytes.
--
-- KEYS  1 entries  stream  the rejected events, the oldest first
--       2 names    hash    digest of an event as it came, to its entry's id
--       3 fixes    hash    entry's id to the corrected event
--       4 groups   hash    "e:GROUP" and "b:GROUP": events and bytes that a group of senders has here
--       5 books    hash    bytes: what is here; kept, pushed_out, over_share: events, ever
-- ARGV  1  events that may be here
--       2  bytes that may be here
--       3... for each event: its digest, its group, its record
--
-- Returns for each event the id of its entry, also where it was here before, or "over_share" where its group has half of
-- what may be here already, or "no_room" where too much would have to go at once. Whatever is kept pushes out the oldest.

local max_events, max_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local share_events, share_bytes = math.max(1, math.floor(max_events / 2)), math.floor(max_bytes / 2)
local OVERHEAD_BYTES = 256 -- of an entry: its digest, its group, what the store needs around them
local left_to_push = 2000  -- more would hold the store up; where a cap was lowered, later calls go on

local function group_sizes(group)
  local sizes = redis.call('HMGET', KEYS[4], 'e:' .. group, 'b:' .. group)
  return tonumber(sizes[1]) or 0, tonumber(sizes[2]) or 0
end

local function push_out_oldest()
  local entry = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  local id, fields = entry[1], entry[2] -- d digest, g group, r record
  local bytes = #fields[6] + OVERHEAD_BYTES
  redis.call('XDEL', KEYS[1], id)
  redis.call('HDEL', KEYS[2], fields[2])
  redis.call('HDEL', KEYS[3], id)
  if redis.call('HINCRBY', KEYS[4], 'e:' .. fields[4], -1) <= 0 then
    redis.call('HDEL', KEYS[4], 'e:' .. fields[4], 'b:' .. fields[4])
  else
    redis.call('HINCRBY', KEYS[4], 'b:' .. fields[4], -bytes)
  end
  redis.call('HINCRBY', KEYS[5], 'bytes', -bytes)
  redis.call('HINCRBY', KEYS[5], 'pushed_out', 1)
end

local function add(digest, group, record)
  local known = redis.call('HGET', KEYS[2], digest)
  if known then
    return known
  end
  local bytes = #record + OVERHEAD_BYTES
  local group_events, group_bytes = group_sizes(group)
  if group_events + 1 > share_events or group_bytes + bytes > share_bytes then
    redis.call('HINCRBY', KEYS[5], 'over_share', 1)
    return 'over_share'
  end
  while redis.call('XLEN', KEYS[1]) + 1 > max_events
    or (tonumber(redis.call('HGET', KEYS[5], 'bytes')) or 0) + bytes > max_bytes do
    if left_to_push == 0 or redis.call('XLEN', KEYS[1]) == 0 then
      return 'no_room'
    end
    left_to_push = left_to_push - 1
    push_out_oldest()
  end
  local id = redis.call('XADD', KEYS[1], '*', 'd', digest, 'g', group, 'r', record)
  redis.call('HSET', KEYS[2], digest, id)
  redis.call('HINCRBY', KEYS[4], 'e:' .. group, 1)
  redis.call('HINCRBY', KEYS[4], 'b:' .. group, bytes)
  redis.call('HINCRBY', KEYS[5], 'bytes', bytes)
  redis.call('HINCRBY', KEYS[5], 'kept', 1)
  return id
end

local answers = {}
for i = 3, #ARGV, 3 do
  answers[#answers + 1] = add(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
return answers
