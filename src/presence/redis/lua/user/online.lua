-- ARGV: session, channel, user.
redis.call("SADD", s, ARGV[1])
redis.call("HDEL", u, "due")
redis.call("PERSIST", u)
if redis.call("HGET", u, "online") == "1" then return 0 end
redis.call("HSET", u, "online", 1)
tell(ARGV[2], ARGV[3], "true", "0")
return 1
