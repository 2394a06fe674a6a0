-- The keys of a room share a hash tag.
-- KEYS: `s` set of sessions (node/session, line feed, user); `c` hash, user → number of sessions; `n` sorted set, user
-- → number in order of joining; `l` sorted set, user within the grace → when it is over; `m` hash of version, next
-- number, sessions, answered, crowded; `f` set of nodes that follow the room; `p` hash, user → 1 joined or 0 left since
-- the last announced change; `h` and `w` the facts that webhooks tell (facts/redis/lua/add.lua).
local s, c, n, l, m, f, p, h, w = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local function now() local t = redis.call("TIME"); return t[1] * 1000 + math.floor(t[2] / 1000) end
