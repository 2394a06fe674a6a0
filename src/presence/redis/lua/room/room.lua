-- The common beginning of the scripts of a room, behind its keys.
local emptyMs = 86400000
-- The first change since the last announcement publishes a notice. Later ones repeat it, since the notice may have been
-- lost.
local function dirty(isFirst, channel, name)
  local at = now()
  if not isFirst and at - tonumber(redis.call("HGET", m, "dirty") or "0") < 5000 then return end
  redis.call("HSET", m, "dirty", at)
  redis.call("PUBLISH", channel, cjson.encode({dirty = name}))
end
local function note(user, came, usersMax, changesMax, channel, name)
  if redis.call("EXISTS", f) == 0 then return end
  if redis.call("HGET", m, "crowded") == "1" then return dirty(false, channel, name) end
  local before = redis.call("HLEN", p)
  local known = redis.call("HGET", p, user)
  if known and known ~= came and redis.call("HGET", m, "answered") ~= "1" then redis.call("HDEL", p, user)
  else redis.call("HSET", p, user, came) end
  if redis.call("HLEN", p) > changesMax or redis.call("ZCARD", n) > usersMax then
    redis.call("DEL", p)
    redis.call("HSET", m, "crowded", 1)
  end
  dirty(before == 0, channel, name)
end
local function leave(session, user, grace)
  redis.call("SREM", s, session)
  redis.call("HINCRBY", m, "sessions", -1)
  if redis.call("HINCRBY", c, user, -1) > 0 then return 0 end
  redis.call("HDEL", c, user)
  redis.call("ZADD", l, now() + grace, user)
  -- If no session is left to end the grace, it ends with the room.
  if redis.call("SCARD", s) == 0 then for _, key in ipairs({n, l, m, p}) do redis.call("PEXPIRE", key, emptyMs) end end
  return 1
end
-- Users handled at once: the caller asks again while there are more.
local expireMax = 500
local function expire(usersMax, changesMax, channel, name, wanted)
  for _, user in ipairs(redis.call("ZRANGEBYSCORE", l, "-inf", now(), "LIMIT", 0, expireMax)) do
    redis.call("ZREM", l, user)
    redis.call("ZREM", n, user)
    local left = redis.call("ZCARD", n)
    addFact(wanted, "l", left, "", user)
    if left == 0 then addFact(wanted, "v", 0, "", "") end
    note(user, "0", usersMax, changesMax, channel, name)
  end
end
