-- Cursors of a user are a hash: device → seq:time:epoch. A user at the maximum of devices loses the one that was quiet
-- longest.
--
-- KEYS: cursors of the user. ARGV: device, epoch, seq, time to live, maximum of devices.
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
return 1
