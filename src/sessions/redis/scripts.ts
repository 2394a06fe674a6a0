/**
 * What has to happen in one step in Redis. Each script is about one key, so that it works in Redis Cluster, and is sent
 * whole with every call: a Redis that was restarted has forgotten what it was taught.
 */

/**
 * A session is a hash: its text, the node whose it is and which life of that node, as which generation it has it, and when
 * it began (microseconds, by the clock of Redis). A generation is written out, where Lua would give a large one an exponent.
 */
const session = `
local function owner(life, generation)
  local known = redis.call("HMGET", KEYS[1], "life", "generation")
  local kept = tonumber(known[2] or "0")
  return kept, known[1] == life, known[1] and known[1] ~= life and kept >= tonumber(generation)
end
`;

/**
 * KEYS: session. ARGV: node, its life, generation, text, time to live. Answers 1, or where it is another's a list of as
 * which generation that one has it.
 */
export const putSession = `${session}
local kept, _, isLost = owner(ARGV[2], ARGV[3])
if isLost then return {kept} end
if redis.call("HEXISTS", KEYS[1], "began") == 0 then
  local now = redis.call("TIME")
  redis.call("HSET", KEYS[1], "began", now[1] .. string.format("%06d", now[2]))
end
redis.call("HSET", KEYS[1], "node", ARGV[1], "life", ARGV[2], "text", ARGV[4])
if kept < tonumber(ARGV[3]) then redis.call("HSET", KEYS[1], "generation", ARGV[3]) end
redis.call("PEXPIRE", KEYS[1], ARGV[5])
return 1`;

/** KEYS: session. ARGV: life of a node, generation, time to live. Answers as putSession does; 0: it has to be put. */
export const keepSession = `${session}
local kept, isOwn, isLost = owner(ARGV[1], ARGV[2])
if isLost then return {kept} end
if not isOwn then return 0 end
return redis.call("PEXPIRE", KEYS[1], ARGV[3])`;

/**
 * KEYS: session. ARGV: node that has it from now on, its life, the generation that its client knows of. Answers its text,
 * the node before, when it began, its generation.
 */
export const takeSession = `
local known = redis.call("HMGET", KEYS[1], "text", "node", "began", "generation")
if not known[1] then return false end
local generation = math.max(tonumber(known[4] or "0"), tonumber(ARGV[3])) + 1
redis.call("HSET", KEYS[1], "node", ARGV[1], "life", ARGV[2], "generation", string.format("%.0f", generation))
return {known[1], known[2], known[3], generation}`;

/** KEYS: session. ARGV: life of a node, generation. */
export const endSession = `${session}
local _, _, isLost = owner(ARGV[1], ARGV[2])
return isLost and 0 or redis.call("DEL", KEYS[1])`;

/** KEYS: the user's mark. ARGV: its time to live. Sessions that began before it are over. */
export const endUser = `
local now = redis.call("TIME")
return redis.call("SET", KEYS[1], now[1] .. string.format("%06d", now[2]), "PX", ARGV[1])`;

/** KEYS: the user's sign-out. ARGV: its time. Only forward. */
export const signOutUser = `
if tonumber(redis.call("GET", KEYS[1]) or "0") < tonumber(ARGV[1]) then redis.call("SET", KEYS[1], ARGV[1]) end
return 1`;

/**
 * Cursors of a user are a hash: device → seq:time:epoch. A user with as many devices as there may be loses the one that
 * was quiet longest.
 *
 * KEYS: cursors of the user. ARGV: device, epoch, seq, time to live, devices at most.
 */
export const moveCursor = `
local known = redis.call("HGET", KEYS[1], ARGV[1])
if known then
  local seq, epoch = string.match(known, "^(%d+):%d+:(.*)$")
  if epoch == ARGV[2] and tonumber(seq) >= tonumber(ARGV[3]) then return 0 end
elseif redis.call("HLEN", KEYS[1]) >= tonumber(ARGV[5]) then
  local all = redis.call("HGETALL", KEYS[1])
  local oldest, oldestAt
  for i = 1, #all, 2 do
    local at = tonumber(string.match(all[i + 1], "^%d+:(%d+):"))
    if not oldestAt or at < oldestAt then oldest, oldestAt = all[i], at end
  end
  redis.call("HDEL", KEYS[1], oldest)
end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[3] .. ":" .. redis.call("TIME")[1] .. ":" .. ARGV[2])
redis.call("PEXPIRE", KEYS[1], ARGV[4])
return 1`;
