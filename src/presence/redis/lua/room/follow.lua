-- ARGV: node. The first follower of a room cannot know earlier changes that were not announced.
if redis.call("EXISTS", f) == 0 then
  redis.call("DEL", p)
  redis.call("HDEL", m, "crowded", "answered")
  redis.call("HINCRBY", m, "version", 1)
end
return redis.call("SADD", f, ARGV[1])
