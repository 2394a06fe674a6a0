-- ARGV: session, user, maximum named users, maximum named changes, channel, room, wanted facts.
if redis.call("SISMEMBER", s, ARGV[1]) == 1 then return 0 end
redis.call("SADD", s, ARGV[1])
redis.call("HINCRBY", c, ARGV[2], 1)
redis.call("HINCRBY", m, "sessions", 1)
for _, key in ipairs({n, l, m, p}) do redis.call("PERSIST", key) end
redis.call("ZREM", l, ARGV[2])
if redis.call("ZSCORE", n, ARGV[2]) then return 0 end
redis.call("ZADD", n, redis.call("HINCRBY", m, "next", 1), ARGV[2])
local users = redis.call("ZCARD", n)
if users == 1 then addFact(ARGV[7], "o", 1, "", "") end
addFact(ARGV[7], "j", users, "", ARGV[2])
note(ARGV[2], "1", tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6])
return 1
