-- Replaces one key if it is still as the caller read it. ARGV: name, text before, text after, new version, most keys.
local before = redis.call('hget', KEYS[1], ARGV[1]) or ''
if before ~= ARGV[2] then return 'changed' end
if ARGV[3] == '' then
  redis.call('hdel', KEYS[1], ARGV[1])
else
  if before == '' and redis.call('hlen', KEYS[1]) > tonumber(ARGV[5]) then return 'full' end
  redis.call('hset', KEYS[1], ARGV[1], ARGV[3])
end
redis.call('hset', KEYS[1], '*', ARGV[4])
return 'done'
