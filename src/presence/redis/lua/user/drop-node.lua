-- ARGV: prefix of the node's sessions, grace, time, how long sessions can be resumed.
for _, session in ipairs(redis.call("SMEMBERS", s)) do
  if string.sub(session, 1, #ARGV[1]) == ARGV[1] then redis.call("SREM", s, session) end
end
local sockets = redis.call("HGETALL", b)
for i = 1, #sockets, 2 do
  if string.sub(sockets[i + 1], 1, #ARGV[1]) == ARGV[1] then lost(sockets[i], sockets[i + 1], false, tonumber(ARGV[4]), "") end
end
return offline(tonumber(ARGV[2]), ARGV[3])
