-- KEYS: session. ARGV: the new owner, its run id, the generation that its client knows. Answers its text, the node
-- before, when it began, its generation.
local known = redis.call("HMGET", KEYS[1], "text", "node", "began", "generation")
if not known[1] then return false end
local generation = math.max(tonumber(known[4] or "0"), tonumber(ARGV[3])) + 1
redis.call("HSET", KEYS[1], "node", ARGV[1], "life", ARGV[2], "generation", string.format("%.0f", generation))
return {known[1], known[2], known[3], generation}
