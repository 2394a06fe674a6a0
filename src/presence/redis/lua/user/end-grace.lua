-- ARGV: channel, user, how long last-seen times are kept, wanted facts. Answers 1 where the grace is not over yet.
return expire(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
