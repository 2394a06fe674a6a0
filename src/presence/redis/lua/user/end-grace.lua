-- ARGV: channel, user, how long last-seen times are kept. Answers 1 where the grace is not over yet.
return expire(ARGV[1], ARGV[2], ARGV[3])
