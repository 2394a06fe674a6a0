-- KEYS: session. ARGV: node, its run id, generation, text, time to live. Answers 1. Where the session belongs to
-- another node, answers a list with that node's generation.
local kept, _, isLost = owner(ARGV[2], ARGV[3])
if isLost then return {kept} end
if redis.call("HEXISTS", KEYS[1], "began") == 0 then
  local now = redis.call("TIME")
  redis.call("HSET", KEYS[1], "began", now[1] .. string.format("%06d", now[2]))
end
redis.call("HSET", KEYS[1], "node", ARGV[1], "life", ARGV[2], "text", ARGV[4])
if kept < tonumber(ARGV[3]) then redis.call("HSET", KEYS[1], "generation", ARGV[3]) end
redis.call("PEXPIRE", KEYS[1], ARGV[5])
return 1
