-- ARGV: number after which the page begins, page size; then as for end-graces. Answers version, users, sessions, then
-- user, number, sessions for each.
expire(tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7])
redis.call("HSET", m, "answered", 1)
if redis.call("ZCARD", n) == 0 and redis.call("EXISTS", f) == 0 then redis.call("HDEL", m, "answered") end
local answer = {tonumber(redis.call("HGET", m, "version") or "0"), redis.call("ZCARD", n), tonumber(redis.call("HGET", m, "sessions") or "0")}
if tonumber(ARGV[2]) == 0 then return answer end
local page = redis.call("ZRANGEBYSCORE", n, "(" .. ARGV[1], "+inf", "WITHSCORES", "LIMIT", 0, tonumber(ARGV[2]))
for i = 1, #page, 2 do
  answer[#answer + 1] = page[i]
  answer[#answer + 1] = page[i + 1]
  answer[#answer + 1] = redis.call("HGET", c, page[i]) or "0"
end
return answer
