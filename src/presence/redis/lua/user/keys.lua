-- The keys of a user share a hash tag.
-- KEYS: `s` set of sessions; `u` hash of online, due (when the grace is over), went (by the clock of a node), seen,
-- version; `h` and `w` the facts that webhooks tell (facts/redis/lua/add.lua); `b` hash, session → its socket
-- (node/socket); `d` sorted set, session without a socket → when it cannot be resumed any more.
local s, u, h, w, b, d = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local function now() local t = redis.call("TIME"); return t[1] * 1000 + math.floor(t[2] / 1000) end
