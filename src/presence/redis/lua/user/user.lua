-- The common beginning of the scripts of a user. Both keys share a hash tag.
-- KEYS: `s` set of sessions; `u` hash of online, due (when the grace is over), went (by the clock of a node), seen,
-- version.
local s, u = KEYS[1], KEYS[2]
local function now() local t = redis.call("TIME"); return t[1] * 1000 + math.floor(t[2] / 1000) end
local function tell(channel, name, online, seen)
  local version = redis.call("HINCRBY", u, "version", 1)
  redis.call("PUBLISH", channel, string.format('{"user":%s,"online":%s,"lastSeen":%s,"version":%d}', cjson.encode(name), online, seen, version))
end
local function offline(grace, at)
  if redis.call("SCARD", s) > 0 or redis.call("HGET", u, "online") ~= "1" then return 0 end
  redis.call("HSET", u, "due", now() + grace, "went", at)
  redis.call("PEXPIRE", u, 2592000000)
  return 1
end
-- Ends the grace if it is over and no other call has ended it. Answers 1 where it is not over yet.
local function expire(channel, name, ttl)
  local due = redis.call("HGET", u, "due")
  if not due then return 0 end
  if tonumber(due) > now() then return 1 end
  local went = redis.call("HGET", u, "went")
  redis.call("HDEL", u, "due", "online", "went")
  redis.call("HSET", u, "seen", went)
  redis.call("PEXPIRE", u, ttl)
  tell(channel, name, "false", went)
  return 0
end
