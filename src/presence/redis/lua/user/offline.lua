-- ARGV: session, grace, time, wanted facts, id of the session or "", 1 where it is over, how long it can be resumed, user.
-- Answers 1 where the user has no session left.
if ARGV[5] ~= "" then lost(ARGV[5], ARGV[1], ARGV[6] == "1", tonumber(ARGV[7]), ARGV[4]) end
if redis.call("SREM", s, ARGV[1]) == 0 then return 0 end
return offline(tonumber(ARGV[2]), ARGV[3])
