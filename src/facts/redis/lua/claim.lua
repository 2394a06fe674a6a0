-- ARGV: then time of the claim, how many, a dead node or "", how long ago it was found dead. Answers for how long another
-- node has the claim, the epoch, how many facts wait, how many were lost, and the facts.
local at = now()
local untilMs, holder = string.match(redis.call("HGET", w, by) or "", "^(%d+) (.*)$")
if holder and holder ~= ARGV[2] and tonumber(untilMs) > at then
  -- A node that claims after it was found dead is back.
  local madeAt = tonumber(untilMs) - tonumber(ARGV[3])
  if holder ~= ARGV[5] or madeAt > at - tonumber(ARGV[6]) then return {tonumber(untilMs) - at, "", 0, 0} end
end
local epoch = redis.call("HGET", w, "epoch") or ""
local skip = upTo(tonumber(redis.call("HGET", w, told) or "0"))
local waiting = redis.call("LLEN", h) - skip
if waiting <= 0 then
  redis.call("HDEL", w, by)
  return {0, epoch, 0, 0}
end
redis.call("HSET", w, by, string.format("%.0f %s", at + tonumber(ARGV[3]), ARGV[2]))
-- An endpoint has lost what it was not told before it was deleted.
local function numberOf(field) return tonumber(redis.call("HGET", w, field) or "0") end
local missed = "missed:" .. ARGV[1]
local lost = math.min(numberOf("lost"), math.max(0, numberOf("last") - math.max(numberOf(told), numberOf(missed))))
if lost > 0 then redis.call("HSET", w, missed, redis.call("HGET", w, "last")) end
local answer = {0, epoch, waiting, lost}
for _, fact in ipairs(redis.call("LRANGE", h, skip, skip + tonumber(ARGV[4]) - 1)) do answer[#answer + 1] = fact end
return answer
