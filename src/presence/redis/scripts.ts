/**
 * What has to happen in one step in Redis. All keys of a room share its hash tag, and so do those of a user. Times are
 * those of Redis; whoever runs a script passes what is configured.
 *
 * A room: `s` set of sessions (node/session, line feed, user); `c` hash, user → how many sessions; `n` sorted set, user → number of its coming;
 * `l` sorted set, user who is within the grace → when it is over; `m` hash of version, next number, sessions, answered,
 * crowded; `f` set of nodes that follow it; `p` hash, user → 1 came or 0 went since the last change was told.
 */
const room = `
local emptyMs = 86400000
local s, c, n, l, m, f, p = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local function now() local t = redis.call("TIME"); return t[1] * 1000 + math.floor(t[2] / 1000) end
-- The first change since the last was told says so; and later ones again, for that may have been lost.
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
  -- Where nobody is left to end the grace, it ends with the room.
  if redis.call("SCARD", s) == 0 then for _, key in ipairs({n, l, m, p}) do redis.call("PEXPIRE", key, emptyMs) end end
  return 1
end
-- So many at once: whoever asked for it asks again while there are more.
local expireMax = 500
local function expire(usersMax, changesMax, channel, name)
  for _, user in ipairs(redis.call("ZRANGEBYSCORE", l, "-inf", now(), "LIMIT", 0, expireMax)) do
    redis.call("ZREM", l, user)
    redis.call("ZREM", n, user)
    note(user, "0", usersMax, changesMax, channel, name)
  end
end
`;

/** ARGV: session, user, users named at most, changes named at most, channel, room. */
export const enterRoom = `${room}
if redis.call("SISMEMBER", s, ARGV[1]) == 1 then return 0 end
redis.call("SADD", s, ARGV[1])
redis.call("HINCRBY", c, ARGV[2], 1)
redis.call("HINCRBY", m, "sessions", 1)
for _, key in ipairs({n, l, m, p}) do redis.call("PERSIST", key) end
redis.call("ZREM", l, ARGV[2])
if redis.call("ZSCORE", n, ARGV[2]) then return 0 end
redis.call("ZADD", n, redis.call("HINCRBY", m, "next", 1), ARGV[2])
note(ARGV[2], "1", tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6])
return 1`;

/** ARGV: session, user, grace. Answers 1 where the user has no session left. */
export const leaveRoom = `${room}
if redis.call("SISMEMBER", s, ARGV[1]) == 0 then return 0 end
return leave(ARGV[1], ARGV[2], tonumber(ARGV[3]))`;

/**
 * ARGV: what the sessions of the node begin with, grace, node, cursor, how many are looked at. What it had among those
 * leaves. Answers the cursor of the next slice; "0": it was the last, and the node follows the room no more.
 */
export const dropNode = `${room}
local slice = redis.call("SSCAN", s, ARGV[4], "COUNT", ARGV[5])
for _, session in ipairs(slice[2]) do
  -- One that comes twice has left already.
  if string.sub(session, 1, #ARGV[1]) == ARGV[1] and redis.call("SISMEMBER", s, session) == 1 then
    leave(session, string.match(session, "\\n(.*)$"), tonumber(ARGV[2]))
  end
end
if slice[1] == "0" then redis.call("SREM", f, ARGV[3]) end
return slice[1]`;

/** ARGV: users named at most, changes named at most, channel, room. Those whose grace is over go, a bounded number at once. Answers how many are left, and how many of those are to go. */
export const endGraces = `${room}
expire(tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4])
if redis.call("ZCARD", n) == 0 then redis.call("PEXPIRE", m, emptyMs) end
return {redis.call("ZCARD", l), redis.call("ZCOUNT", l, "-inf", now())}`;

/** ARGV: node. The first that follows a room cannot know what was not told before. */
export const followRoom = `${room}
if redis.call("EXISTS", f) == 0 then
  redis.call("DEL", p)
  redis.call("HDEL", m, "crowded", "answered")
  redis.call("HINCRBY", m, "version", 1)
end
return redis.call("SADD", f, ARGV[1])`;

/** ARGV: node. */
export const unfollowRoom = `${room}
redis.call("SREM", f, ARGV[1])
if redis.call("EXISTS", f) == 0 then
  redis.call("DEL", p)
  redis.call("HDEL", m, "crowded", "answered")
end
return 1`;

/** Somebody may have missed what was told: the next that is told names nobody, upon which everybody asks. */
export const doubtRoom = `${room}
if redis.call("EXISTS", f) == 0 then return 0 end
redis.call("DEL", p)
return redis.call("HSET", m, "crowded", 1)`;

/** ARGV: channel, room. Tells everybody what has changed, once: whoever comes later finds nothing. */
export const tellRoom = `${room}
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
return 1`;

/** ARGV: number after which the page begins, how many; then as for endGraces. Answers version, users, sessions, then user, number, sessions for each. */
export const readRoom = `${room}
expire(tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6])
redis.call("HSET", m, "answered", 1)
if redis.call("ZCARD", n) == 0 and redis.call("EXISTS", f) == 0 then redis.call("HDEL", m, "answered") end
local answer = {tonumber(redis.call("HGET", m, "version") or "0"), redis.call("ZCARD", n), tonumber(redis.call("HGET", m, "sessions") or "0")}
if tonumber(ARGV[2]) == 0 then return answer end
local page = redis.call("ZRANGEBYSCORE", n, "(" .. ARGV[1], "+inf", "WITHSCORES", "LIMIT", 0, tonumber(ARGV[2]))
for i = 1, #page, 2 do
  answer[#answer + 1] = page[i]
  answer[#answer + 1] = page[i + 1]
  answer[#answer + 1] = redis.call("HGET", c, page[i]) or "0"
end
return answer`;

/** A user: `s` set of sessions; `u` hash of online, due (when the grace is over), went (by the clock of a node), seen, version. */
const user = `
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
-- Whether a grace is over that nobody has ended yet, and if so, ends it.
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
`;

/** ARGV: session, channel, user. */
export const userOnline = `${user}
redis.call("SADD", s, ARGV[1])
redis.call("HDEL", u, "due")
redis.call("PERSIST", u)
if redis.call("HGET", u, "online") == "1" then return 0 end
redis.call("HSET", u, "online", 1)
tell(ARGV[2], ARGV[3], "true", "0")
return 1`;

/** ARGV: session, grace, time. Answers 1 where the user has no session left. */
export const userOffline = `${user}
if redis.call("SREM", s, ARGV[1]) == 0 then return 0 end
return offline(tonumber(ARGV[2]), ARGV[3])`;

/** ARGV: what the sessions of the node begin with, grace, time. */
export const dropUser = `${user}
for _, session in ipairs(redis.call("SMEMBERS", s)) do
  if string.sub(session, 1, #ARGV[1]) == ARGV[1] then redis.call("SREM", s, session) end
end
return offline(tonumber(ARGV[2]), ARGV[3])`;

/** ARGV: channel, user, how long it is remembered when the user was seen. Answers 1 where the grace is not over yet. */
export const endUserGrace = `${user}
return expire(ARGV[1], ARGV[2], ARGV[3])`;

/** The same. Answers online, seen and version. */
export const readUser = `${user}
expire(ARGV[1], ARGV[2], ARGV[3])
return redis.call("HMGET", u, "online", "seen", "version")`;
