-- ARGV: as for end-grace. Answers online, seen and version.
expire(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return redis.call("HMGET", u, "online", "seen", "version")
