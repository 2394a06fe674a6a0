-- A follower may have missed a change: the next change carries counts only, which makes clients ask again.
if redis.call("EXISTS", f) == 0 then return 0 end
redis.call("DEL", p)
return redis.call("HSET", m, "crowded", 1)
