-- ARGV: channel, user, how long it is remembered when the user was seen. Answers 1 where the grace is not over yet.
return expire(ARGV[1], ARGV[2], ARGV[3])
