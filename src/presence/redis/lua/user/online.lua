-- ARGV: session, channel, user, wanted facts, id of the session or "", 1 where it is new.
redis.call("SADD", s, ARGV[1])
redis.call("HDEL", u, "due")
redis.call("PERSIST", u)
local isBack = redis.call("HGET", u, "online") == "1"
if not isBack then
  redis.call("HSET", u, "online", 1)
  tell(ARGV[2], ARGV[3], "true", "0")
  addFact(ARGV[4], "n", 0, "", "")
end
if ARGV[5] ~= "" then
  if redis.call("HEXISTS", b, ARGV[5]) == 0 and ARGV[6] == "1" and not redis.call("ZSCORE", d, ARGV[5]) then addFact(ARGV[4], "c", 0, ARGV[5], "") end
  redis.call("ZREM", d, ARGV[5])
  redis.call("HSET", b, ARGV[5], ARGV[1])
end
return isBack and 0 or 1
