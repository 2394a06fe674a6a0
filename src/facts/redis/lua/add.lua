-- Adds facts. Scripts of presence include it: a fact is added in the step that makes it true.
-- `h` is the list of facts; `w` the hash of epoch, n (number of the last fact), lost (how many were deleted, as there
-- were too many) and last (number of the last of them), and for each endpoint told:NAME (up to which number it was told),
-- missed:NAME (`last` when its losses were counted) and by:NAME (until when a node tells it, and which).
-- `wanted`: letters of the facts that somebody wants, a colon, and an epoch for a subject that has none.
local factsMax, keepMs = 50000, 2592000000
local function addFact(wanted, letter, users, session, member)
  local letters, epoch = string.match(wanted, "^(%a*):(.*)$")
  if not letters or not string.find(letters, letter, 1, true) then return end
  if redis.call("HEXISTS", w, "epoch") == 0 then redis.call("HSET", w, "epoch", epoch) end
  local n = redis.call("HINCRBY", w, "n", 1)
  if redis.call("LLEN", h) >= factsMax then
    redis.call("HSET", w, "last", string.match(redis.call("LPOP", h), "^%d+"))
    redis.call("HINCRBY", w, "lost", 1)
  end
  redis.call("RPUSH", h, string.format("%.0f %.0f %s %.0f %s %s", n, now(), letter, users, session, member))
  redis.call("PEXPIRE", h, keepMs)
  redis.call("PEXPIRE", w, keepMs)
end
