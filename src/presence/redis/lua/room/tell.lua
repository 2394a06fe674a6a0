-- ARGV: channel, room. Publishes the changes once: a later call finds none.
local crowded = redis.call("HGET", m, "crowded") == "1"
local all = redis.call("HGETALL", p)
redis.call("DEL", p)
redis.call("HDEL", m, "crowded", "answered")
if not crowded and #all == 0 then return 0 end
local joined, left = {}, {}
for i = 1, #all, 2 do
  local list = all[i + 1] == "1" and joined or left
  list[#list + 1] = all[i]
end
local version = redis.call("HINCRBY", m, "version", 1)
local function array(list) return #list == 0 and "[]" or cjson.encode(list) end
redis.call("PUBLISH", ARGV[1], string.format('{"room":%s,"version":%d,"users":%d,"sessions":%d,"joined":%s,"left":%s,"countsOnly":%s}',
  cjson.encode(ARGV[2]), version, redis.call("ZCARD", n), tonumber(redis.call("HGET", m, "sessions") or "0"), array(joined), array(left), tostring(crowded)))
return 1
