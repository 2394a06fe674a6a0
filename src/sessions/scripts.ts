/**
 * What has to happen in one step in Redis. Each script is about one key, so that it works in Redis Cluster, and is sent
 * whole with every call: a Redis that was restarted has forgotten what it was taught.
 */

/**
 * A session is a hash: its text, the node whose it is, how often it was taken, and when it began (microseconds, by the
 * clock of Redis).
 *
 * KEYS: session. ARGV: node, text, time to live, "1" to write it whosoever it is. Answers 0 where it is another node's.
 */
export const putSession = `
local known = redis.call("HMGET", KEYS[1], "node", "began")
if known[1] and known[1] ~= ARGV[1] and ARGV[4] == "0" then return 0 end
if not known[2] then
  local now = redis.call("TIME")
  redis.call("HSET", KEYS[1], "began", now[1] .. string.format("%06d", now[2]))
end
redis.call("HSET", KEYS[1], "node", ARGV[1], "text", ARGV[2])
redis.call("PEXPIRE", KEYS[1], ARGV[3])
return 1`;

/** KEYS: session. ARGV: node, which has it from now on. Answers its text, the node before, when it began, how often it was taken. */
export const takeSession = `
local known = redis.call("HMGET", KEYS[1], "text", "node", "began")
if not known[1] then return false end
redis.call("HSET", KEYS[1], "node", ARGV[1])
return {known[1], known[2], known[3], redis.call("HINCRBY", KEYS[1], "takes", 1)}`;

/** KEYS: session. ARGV: node, "1" to end it whosoever it is. */
export const endSession = `
if ARGV[2] == "1" or redis.call("HGET", KEYS[1], "node") == ARGV[1] then return redis.call("DEL", KEYS[1]) end
return 0`;

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
