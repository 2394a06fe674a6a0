-- KEYS: the rooms of a user. ARGV: a room, how many the user may have. Answers 0 where the user has so many others.
if redis.call("SISMEMBER", KEYS[1], ARGV[1]) == 1 then return 1 end
if redis.call("SCARD", KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
return redis.call("SADD", KEYS[1], ARGV[1])
