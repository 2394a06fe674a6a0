-- Dead letters of an endpoint. KEYS: hash of letters by id, sorted set of ids by time. ARGV: id, letter, time, maximum.
if redis.call("HEXISTS", KEYS[1], ARGV[1]) == 1 then return 0 end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
redis.call("ZADD", KEYS[2], ARGV[3], ARGV[1])
for _, id in ipairs(redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", "+inf", "LIMIT", 0, math.max(0, redis.call("ZCARD", KEYS[2]) - tonumber(ARGV[4])))) do
  redis.call("HDEL", KEYS[1], id)
  redis.call("ZREM", KEYS[2], id)
end
return 1
