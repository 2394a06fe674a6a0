-- ARGV: then time of the claim, epoch, number, 1 where the claim ends, and the names of all endpoints of the subject.
-- Answers how many facts wait; -1 where another node has the claim.
local quietMs, keepMs = 86400000, 2592000000
if redis.call("HGET", w, "epoch") ~= ARGV[4] then return redis.call("LLEN", h) end
local n = math.max(tonumber(ARGV[5]), tonumber(redis.call("HGET", w, told) or "0"))
if n > 0 then redis.call("HSET", w, told, string.format("%.0f", n)) end
local least = n
for i = 7, #ARGV do least = math.min(least, tonumber(redis.call("HGET", w, "told:" .. ARGV[i]) or "0")) end
local done = upTo(least)
if done > 0 then redis.call("LTRIM", h, done, -1) end
local holder = string.match(redis.call("HGET", w, by) or "", "^%d+ (.*)$")
if holder == ARGV[2] then
  if ARGV[6] == "1" then redis.call("HDEL", w, by) else redis.call("HSET", w, by, string.format("%.0f %s", now() + tonumber(ARGV[3]), ARGV[2])) end
end
local length = redis.call("LLEN", h)
-- The numbers of a room that is in use go on. Those of others begin again after a day, in another epoch.
if length == 0 then redis.call("PEXPIRE", w, redis.call("EXISTS", KEYS[3]) == 1 and keepMs or quietMs) end
if holder and holder ~= ARGV[2] then return -1 end
return length - upTo(n)
