-- A token bucket: it fills at ARGV[1] permits a second, to ARGV[2], and ARGV[3] are wanted. Returns how many it gives.
-- Redis's own clock, so that the clocks of those who ask do not matter.
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local held = redis.call('HMGET', KEYS[1], 'permits', 'at_ms')
local permits, at_ms = tonumber(held[1]) or burst, tonumber(held[2]) or now_ms
permits = math.min(burst, permits + math.max(0, now_ms - at_ms) * rate / 1000)
local granted = math.min(math.floor(permits), wanted)
redis.call('HSET', KEYS[1], 'permits', tostring(permits - granted), 'at_ms', now_ms)
-- Full again by then, as one that is not there.
redis.call('PEXPIRE', KEYS[1], math.ceil(burst * 1000 / rate) + 1000)
return granted
