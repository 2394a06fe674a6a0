-- ARGV: maximum named users, maximum named changes, channel, room, wanted facts. Removes a bounded number of users whose grace is
-- over. Answers how many users are left within a grace, and how many of those are due.
expire(tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5])
if redis.call("ZCARD", n) == 0 then redis.call("PEXPIRE", m, emptyMs) end
return {redis.call("ZCARD", l), redis.call("ZCOUNT", l, "-inf", now())}
