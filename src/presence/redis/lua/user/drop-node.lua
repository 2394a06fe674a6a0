-- ARGV: prefix of the node's sessions, grace, time.
for _, session in ipairs(redis.call("SMEMBERS", s)) do
  if string.sub(session, 1, #ARGV[1]) == ARGV[1] then redis.call("SREM", s, session) end
end
return offline(tonumber(ARGV[2]), ARGV[3])
