-- KEYS: session. ARGV: run id of a node, generation.
local _, _, isLost = owner(ARGV[1], ARGV[2])
return isLost and 0 or redis.call("DEL", KEYS[1])
