-- The common beginning of the scripts of a user, behind its keys.
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
-- A session has lost its socket. It ends at once, or where it is not resumed in time.
local function lost(session, socket, isOver, ttl, wanted)
  if redis.call("HGET", b, session) ~= socket then return end
  redis.call("HDEL", b, session)
  if not isOver then
    redis.call("ZADD", d, now() + ttl, session)
    return redis.call("PEXPIRE", d, keepMs)
  end
  redis.call("ZREM", d, session)
  addFact(wanted, "e", 0, session, "")
end
-- Ends the sessions that are due by then: a bounded number. Answers when the next is due, 0 for none.
local function endDue(till, wanted)
  for _, session in ipairs(redis.call("ZRANGEBYSCORE", d, "-inf", till, "LIMIT", 0, 500)) do
    redis.call("ZREM", d, session)
    addFact(wanted, "e", 0, session, "")
  end
  local first = redis.call("ZRANGEBYSCORE", d, "-inf", "+inf", "LIMIT", 0, 1)[1]
  return first and tonumber(redis.call("ZSCORE", d, first)) or 0
end
-- Ends the grace if it is over and no other call has ended it. Answers 1 where it is not over yet.
local function expire(channel, name, ttl, wanted)
  local due = redis.call("HGET", u, "due")
  if not due then return 0 end
  if tonumber(due) > now() then return 1 end
  local went = redis.call("HGET", u, "went")
  redis.call("HDEL", u, "due", "online", "went")
  redis.call("HSET", u, "seen", went)
  redis.call("PEXPIRE", u, ttl)
  tell(channel, name, "false", went)
  addFact(wanted, "f", 0, "", "")
  return 0
end
