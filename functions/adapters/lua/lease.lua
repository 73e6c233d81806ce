-- lease: be the only one who does something; say so again, or give that up.
--
-- KEYS  1 lease  hash  who holds it (token), and until when (until_us, by the store's clock)
-- ARGV  1  take, renew or return
--       2  a token of the holder's own
--       3  microseconds that it holds from now, for take and renew
--
-- Returns 1 where it is the holder's (after return: was), else 0. One that has run out is renewed as long as nobody else
-- has taken it: taken and returned by another one, it is never the first one's again.

local holder = redis.call('HGET', KEYS[1], 'token')
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[1] == 'take' then
  if holder and tonumber(redis.call('HGET', KEYS[1], 'until_us')) > now then
    return 0
  end
elseif holder ~= ARGV[2] then
  return 0
end
if ARGV[1] == 'return' then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'token', ARGV[2], 'until_us', string.format('%.0f', now + ARGV[3]))
end
return 1
