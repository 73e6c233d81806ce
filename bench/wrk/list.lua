-- 500 events a request, as the data of one CloudEvent, whose id is another each time; user ids of 64 characters.
wrk.method = "POST"
local thread = 0
function setup(t)
  t:set("thread", thread)
  thread = thread + 1
end
local EVENTS = 500
local number, salt = 0, os.time()
local user = string.rep("0123456789abcdef", 4):sub(1, 58)
local events = {}
for event = 1, EVENTS do
  events[event] = string.format(
    '{"timestamp":"2026-03-02T08:%02d:%02d.%03dZ","user_id":"%s%06d","event":"flyer_open","flyer_id":"flyer-%d",'
      .. '"merchant_id":"merchant-%d"}',
    event / 60 % 60, event % 60, event, user, event * 7919 % 1000000, event % 97, event % 13)
end
local rest = '","source":"/bench","type":"bench","data":[' .. table.concat(events, ",") .. "]}"
local headers = { ["content-type"] = "application/cloudevents+json", ["prefer"] = os.getenv("WRK_PREFER") }
function request()
  number = number + 1
  return wrk.format(nil, "/", headers, '{"specversion":"1.0","id":"' .. thread .. "-" .. salt .. "-" .. number .. rest)
end
