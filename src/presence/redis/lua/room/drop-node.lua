-- ARGV: prefix of the node's sessions, grace, node, cursor, slice size. The node's sessions in this slice leave.
-- Answers the cursor of the next slice; "0": it was the last, and the node does not follow the room any more.
local slice = redis.call("SSCAN", s, ARGV[4], "COUNT", ARGV[5])
for _, session in ipairs(slice[2]) do
  -- A session that comes twice has left already.
  if string.sub(session, 1, #ARGV[1]) == ARGV[1] and redis.call("SISMEMBER", s, session) == 1 then
    leave(session, string.match(session, "\n(.*)$"), tonumber(ARGV[2]))
  end
end
if slice[1] == "0" then redis.call("SREM", f, ARGV[3]) end
return slice[1]
