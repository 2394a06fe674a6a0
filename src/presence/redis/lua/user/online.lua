-- ARGV: session, channel, user, wanted facts, id of the session or "", and 1 where it is new, 0 where it was resumed, 2 where it is written again.
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
  local isKnown = redis.call("HEXISTS", b, ARGV[5]) == 1
  if not isKnown and ARGV[6] ~= "0" and not redis.call("ZSCORE", d, ARGV[5]) then addFact(ARGV[4], "c", 0, ARGV[5], "") end
  -- Written again, it may have been resumed on another node meanwhile.
  if not isKnown or ARGV[6] ~= "2" then
    redis.call("ZREM", d, ARGV[5])
    redis.call("HSET", b, ARGV[5], ARGV[1])
  end
end
return isBack and 0 or 1
