-- quarantine_add: keep rejected events, each once, within caps of number, bytes and age.
--
-- KEYS  1 entries  stream      the rejected events, the oldest first
--       2 names    hash        digest of an event as it came, to its entry's id
--       3 fixes    hash        entry's id to the corrected event
--       4 groups   hash        "e:GROUP" and "b:GROUP": events and bytes that a group of senders has here
--       5 books    hash        bytes: what is here; kept, pushed_out, over_share, expired: events, ever
--       6 order    sorted set  "GROUP NUL id", all of one score: the oldest entry of a group comes first; the id's second
--                              number has 20 digits, so that texts stand in the order of numbers
-- ARGV  1  events that may be here
--       2  bytes that may be here
--       3  milliseconds that an event may be here; 0: for ever
--       4... for each event: its digest, its group, its record; none at all where only what is too old shall go
--
-- Returns for each event the id of its entry, also where it was here before, or "no_room" where too much would have to go
-- at once. What is too old goes first. Where there is no room, a group that has half of it or more pushes out its own oldest entry, any other group
-- the oldest of all: nobody pushes the others out of more than half.

local max_events, max_bytes, max_age_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local share_events, share_bytes = math.max(1, math.floor(max_events / 2)), math.floor(max_bytes / 2)
local OVERHEAD_BYTES = 320 -- of an entry: its digest, its group, what the store needs around them
local left_to_push = 2000  -- more would hold the store up; where a cap was lowered, later calls go on
if #ARGV == 3 and redis.call('EXISTS', KEYS[1]) == 0 then
  return {}
end

-- What is counted is read once and written once.
local events = redis.call('XLEN', KEYS[1])
local held = tonumber(redis.call('HGET', KEYS[5], 'bytes')) or 0
local fixes = redis.call('HLEN', KEYS[3])
redis.call('HSET', KEYS[5], 'bytes', held) -- a store without memory refuses this, before anything is changed
local counts = { kept = 0, pushed_out = 0, over_share = 0, expired = 0 }
local groups = {}

local function sizes_of(group)
  if not groups[group] then
    local sizes = redis.call('HMGET', KEYS[4], 'e:' .. group, 'b:' .. group)
    groups[group] = { events = tonumber(sizes[1]) or 0, bytes = tonumber(sizes[2]) or 0 }
  end
  return groups[group]
end

local function change(group, by_events, by_bytes)
  local sizes = sizes_of(group)
  sizes.events, sizes.bytes = sizes.events + by_events, sizes.bytes + by_bytes
  events, held = events + by_events, held + by_bytes
end

local function write_counts()
  redis.call('HSET', KEYS[5], 'bytes', held)
  for name, count in pairs(counts) do
    if count > 0 then
      redis.call('HINCRBY', KEYS[5], name, count)
    end
  end
  for group, sizes in pairs(groups) do
    if sizes.events > 0 then
      redis.call('HSET', KEYS[4], 'e:' .. group, sizes.events, 'b:' .. group, sizes.bytes)
    else
      redis.call('HDEL', KEYS[4], 'e:' .. group, 'b:' .. group)
    end
  end
end

local function member_of(group, id)
  local moment, number = string.match(id, '(%d+)-(%d+)')
  return group .. '\0' .. moment .. '-' .. string.rep('0', 20 - #number) .. number
end

local function remove(entry, why)
  local id, fields = entry[1], entry[2] -- d digest, g group, r record
  redis.call('XDEL', KEYS[1], id)
  redis.call('HDEL', KEYS[2], fields[2])
  redis.call('ZREM', KEYS[6], member_of(fields[4], id))
  if fixes > 0 then
    redis.call('HDEL', KEYS[3], id)
  end
  change(fields[4], -1, -(#fields[6] + OVERHEAD_BYTES))
  counts[why] = counts[why] + 1
end

local function expire()
  local now = redis.call('TIME') -- seconds, microseconds
  local first_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000) - max_age_ms
  while left_to_push > 0 do
    local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
    if not oldest or tonumber(string.match(oldest[1], '%d+')) >= first_ms then
      return
    end
    left_to_push = left_to_push - 1
    remove(oldest, 'expired')
  end
end

local function oldest_of(group)
  local found = redis.call('ZRANGEBYLEX', KEYS[6], '[' .. group .. '\0', '(' .. group .. '\1', 'LIMIT', 0, 1)[1]
  if not found then
    return nil
  end
  local id = string.sub(found, #group + 2) -- the store reads its zeros as they are
  return redis.call('XRANGE', KEYS[1], id, id)[1]
end

local function push_out(group, bytes)
  local sizes = sizes_of(group)
  if sizes.events + 1 > share_events or sizes.bytes + bytes > share_bytes then
    local own = oldest_of(group)
    if own then
      return remove(own, 'over_share')
    end
  end
  remove(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1], 'pushed_out')
end

local function add(digest, group, record)
  local known = redis.call('HGET', KEYS[2], digest)
  if known then
    return known
  end
  local bytes = #record + OVERHEAD_BYTES
  if bytes > share_bytes then
    return 'no_room'
  end
  while events + 1 > max_events or held + bytes > max_bytes do
    if left_to_push == 0 or events == 0 then
      return 'no_room'
    end
    left_to_push = left_to_push - 1
    push_out(group, bytes)
  end
  local id = redis.call('XADD', KEYS[1], '*', 'd', digest, 'g', group, 'r', record)
  redis.call('HSET', KEYS[2], digest, id)
  redis.call('ZADD', KEYS[6], 0, member_of(group, id))
  change(group, 1, bytes)
  counts.kept = counts.kept + 1
  return id
end

if max_age_ms > 0 then
  expire()
end
local answers = {}
for i = 4, #ARGV, 3 do
  answers[#answers + 1] = add(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
write_counts()
return answers
