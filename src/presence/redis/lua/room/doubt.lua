-- Somebody may have missed what was told: the next that is told names nobody, upon which everybody asks.
if redis.call("EXISTS", f) == 0 then return 0 end
redis.call("DEL", p)
return redis.call("HSET", m, "crowded", 1)
