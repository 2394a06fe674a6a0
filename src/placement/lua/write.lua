-- KEYS: the table. ARGV: number and text of a newer table, and the text of a stored one that no node can read, or "".
-- Stores the newer table unless one of its number or a higher one is stored. Answers the text that is stored then.
local number = tonumber(redis.call("HGET", KEYS[1], "number") or "0") or 0
local stored = redis.call("HGET", KEYS[1], "table")
if stored and stored ~= ARGV[3] and number >= tonumber(ARGV[1]) then return stored end
redis.call("HSET", KEYS[1], "number", ARGV[1], "table", ARGV[2])
return ARGV[2]
