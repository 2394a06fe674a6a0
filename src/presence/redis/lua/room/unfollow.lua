-- ARGV: node.
redis.call("SREM", f, ARGV[1])
if redis.call("EXISTS", f) == 0 then
  redis.call("DEL", p)
  redis.call("HDEL", m, "crowded", "answered")
end
return 1
