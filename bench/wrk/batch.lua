-- 500 events a request, a batch of CloudEvents; every event has another id, and a user id of 64 characters.
-- Only the ids' common part is made anew for each request, so that the sender costs little beside what is measured.
wrk.method = "POST"
local thread = 0
function setup(t)
  t:set("thread", thread)
  thread = thread + 1
end
local EVENTS = 500
local number, salt = 0, os.time()
local user = string.rep("0123456789abcdef", 4):sub(1, 58)
local parts = {}
for event = 1, EVENTS do
  parts[3 * event - 2] = event == 1 and '[{"specversion":"1.0","id":"' or ',{"specversion":"1.0","id":"'
  parts[3 * event] = string.format(
    '-%d","source":"/bench","type":"bench","data":{"timestamp":"2026-03-02T08:%02d:%02d.%03dZ","user_id":"%s%06d",'
      .. '"event":"flyer_open","flyer_id":"flyer-%d","merchant_id":"merchant-%d"}}%s',
    event, event / 60 % 60, event % 60, event, user, event * 7919 % 1000000, event % 97, event % 13,
    event == EVENTS and "]" or "")
end
local headers = { ["content-type"] = "application/cloudevents-batch+json", ["prefer"] = os.getenv("WRK_PREFER") }
function request()
  number = number + 1
  local id = thread .. "-" .. salt .. "-" .. number
  for event = 1, EVENTS do
    parts[3 * event - 1] = id
  end
  return wrk.format(nil, "/", headers, table.concat(parts))
end
