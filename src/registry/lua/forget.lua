-- KEYS: entries of all nodes. ARGV: node, its entry as last seen. Removes the entry if it is unchanged. Answers 1 to
-- the node that removed it.
if redis.call("HGET", KEYS[1], ARGV[1]) == ARGV[2] then return redis.call("HDEL", KEYS[1], ARGV[1]) end
return 0
