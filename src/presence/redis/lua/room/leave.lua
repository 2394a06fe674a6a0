-- ARGV: session, user, grace. Answers 1 where the user has no session left.
if redis.call("SISMEMBER", s, ARGV[1]) == 0 then return 0 end
return leave(ARGV[1], ARGV[2], tonumber(ARGV[3]))
