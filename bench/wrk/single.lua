-- One event a request, a CloudEvent in binary mode; every event has another id, and a user id of 64 characters.
wrk.method = "POST"
local thread = 0
function setup(t)
  t:set("thread", thread)
  thread = thread + 1
end
local number, salt = 0, os.time()
local user = string.rep("0123456789abcdef", 4):sub(1, 60)
local headers = {
  ["content-type"] = "application/json", ["ce-specversion"] = "1.0", ["ce-source"] = "/bench", ["ce-type"] = "bench",
}
function request()
  number = number + 1
  headers["ce-id"] = thread .. "-" .. salt .. "-" .. number
  return wrk.format(nil, "/", headers, '{"timestamp":"2026-03-02T08:00:00.123Z","user_id":"' .. user
    .. string.format("%04d", number % 10000) .. '","event":"flyer_open","flyer_id":"flyer-1","merchant_id":"merchant-1"}')
end
