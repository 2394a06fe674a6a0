-- ARGV: session, grace, time. Answers 1 where the user has no session left.
if redis.call("SREM", s, ARGV[1]) == 0 then return 0 end
return offline(tonumber(ARGV[2]), ARGV[3])
