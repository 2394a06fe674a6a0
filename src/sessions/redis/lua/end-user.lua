-- KEYS: the user's mark. ARGV: its time to live. Ends the sessions that began before it.
local now = redis.call("TIME")
return redis.call("SET", KEYS[1], now[1] .. string.format("%06d", now[2]), "PX", ARGV[1])
