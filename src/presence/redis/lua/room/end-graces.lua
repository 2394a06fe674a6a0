-- ARGV: users named at most, changes named at most, channel, room. Those whose grace is over go, a bounded number at once. Answers how many are left, and how many of those are to go.
expire(tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4])
if redis.call("ZCARD", n) == 0 then redis.call("PEXPIRE", m, emptyMs) end
return {redis.call("ZCARD", l), redis.call("ZCOUNT", l, "-inf", now())}
