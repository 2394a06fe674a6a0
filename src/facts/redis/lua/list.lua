-- The common beginning of the scripts of a subject's list (add.lua).
-- KEYS: h, w, and a key that exists while the room has members or the user sessions. ARGV: endpoint, node.
local h, w = KEYS[1], KEYS[2]
local function now() local t = redis.call("TIME"); return t[1] * 1000 + math.floor(t[2] / 1000) end
local told, by = "told:" .. ARGV[1], "by:" .. ARGV[1]
-- Facts at the front of the list that have numbers up to `n`.
local function upTo(n)
  local first = redis.call("LRANGE", h, 0, 0)[1]
  return first and math.max(0, n - tonumber(string.match(first, "^%d+")) + 1) or 0
end
