-- KEYS: as for bury. ARGV: how many. Answers how many there are, and the oldest letters.
local answer = {redis.call("ZCARD", KEYS[2])}
for _, id in ipairs(redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", "+inf", "LIMIT", 0, tonumber(ARGV[1]))) do
  answer[#answer + 1] = redis.call("HGET", KEYS[1], id)
end
return answer
