-- ARGV: wanted facts. Ends sessions that were not resumed in time. Answers for how long the next may be resumed, 0 for none.
local due = endDue(now(), ARGV[1])
return due == 0 and 0 or math.max(1, due - now())
