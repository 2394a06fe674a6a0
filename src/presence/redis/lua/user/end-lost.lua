-- ARGV: wanted facts. All sessions without a socket have ended.
return endDue("+inf", ARGV[1])
