-- What some scripts of a session begin with. A session is a hash: its text, the node whose it is and which life of that node, as which generation it has it, and when
-- it began (microseconds, by the clock of Redis). A generation is written out, where Lua would give a large one an exponent.
local function owner(life, generation)
  local known = redis.call("HMGET", KEYS[1], "life", "generation")
  local kept = tonumber(known[2] or "0")
  return kept, known[1] == life, known[1] and known[1] ~= life and kept >= tonumber(generation)
end
