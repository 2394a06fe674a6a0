/**
 * What has to happen in one step in Redis. Each script is about one key, so that it works in Redis Cluster, and is sent
 * whole with every call: a Redis that was restarted has forgotten what it was taught.
 */

/** Over which other node's entry a node may write. */
export const force = {
  none: "0",
  /** One that was given to its node under another run of Redis: who had it last may have been lost since. */
  otherRun: "1",
  any: "2",
} as const;

/**
 * A session is a hash: its text, the node whose it is, how often it was taken, when it began (microseconds, by the clock
 * of Redis), and the run of Redis in which it was taken last, or written by force. Asked of Redis itself, for a node may
 * not know yet that it is another: writes that waited are sent before anything.
 */
const session = `
local function run()
  local info = redis.pcall("INFO", "server")
  return type(info) == "string" and string.match(info, "run_id:(%w+)") or ""
end
local function isRefused(node, force)
  local known = redis.call("HMGET", KEYS[1], "node", "run")
  if not known[1] or known[1] == node or force == "2" then return false end
  return force == "0" or known[2] == run()
end
`;

/**
 * KEYS: session. ARGV: node, text, time to live, force. Answers 1, or where it is another node's a list of how often it
 * was taken.
 */
export const putSession = `${session}
if isRefused(ARGV[1], ARGV[4]) then return {tonumber(redis.call("HGET", KEYS[1], "takes") or "0")} end
if redis.call("HEXISTS", KEYS[1], "began") == 0 then
  local now = redis.call("TIME")
  redis.call("HSET", KEYS[1], "began", now[1] .. string.format("%06d", now[2]))
end
redis.call("HSET", KEYS[1], "node", ARGV[1], "text", ARGV[2])
if ARGV[4] ~= "0" then redis.call("HSET", KEYS[1], "run", run()) end
redis.call("PEXPIRE", KEYS[1], ARGV[3])
return 1`;

/** KEYS: session. ARGV: node, which has it from now on. Answers its text, the node before, when it began, how often it was taken. */
export const takeSession = `${session}
local known = redis.call("HMGET", KEYS[1], "text", "node", "began")
if not known[1] then return false end
redis.call("HSET", KEYS[1], "node", ARGV[1], "run", run())
return {known[1], known[2], known[3], redis.call("HINCRBY", KEYS[1], "takes", 1)}`;

/** KEYS: session. ARGV: node, force. */
export const endSession = `${session}
if isRefused(ARGV[1], ARGV[2]) then return 0 end
return redis.call("DEL", KEYS[1])`;

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
