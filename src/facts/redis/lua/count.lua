-- Answers how many facts wait for the endpoint.
return redis.call("LLEN", h) - upTo(tonumber(redis.call("HGET", w, told) or "0"))
