-- KEYS: session. ARGV: run id of a node, generation, time to live. Answers as put does; 0: it has to be put.
local kept, isOwn, isLost = owner(ARGV[1], ARGV[2])
if isLost then return {kept} end
if not isOwn then return 0 end
return redis.call("PEXPIRE", KEYS[1], ARGV[3])
