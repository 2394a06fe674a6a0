-- The common beginning of the scripts of a session. A session is a hash: its text, the node that owns it, the run id of
-- that node (field `life`), its generation, and when it began (microseconds, by the clock of Redis). A generation is
-- written in full digits: Lua would give a large one an exponent.
local function owner(runId, generation)
  local known = redis.call("HMGET", KEYS[1], "life", "generation")
  local kept = tonumber(known[2] or "0")
  return kept, known[1] == runId, known[1] and known[1] ~= runId and kept >= tonumber(generation)
end
