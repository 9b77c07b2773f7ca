-- uses: keys turns leases
--
-- One look at what there is to do: which models have claimable work, and for whom; of which models
-- leases are over, whose jobs the next claim finds; whether a sweep waits for its index.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 how many expired leases to look at; where there are more, they have their turn later
-- Reply {{'model pin'...}, {model...} of expired leases, '' of those that are finalise items,
--        finalise items that wait}
--
-- Touches  roots (set, less those without work), turn:MODEL:PIN (zset), leases (zset), lease:TOKEN
--   (hash), finalise (zset)

local roots = {}
for _, root in ipairs(redis.call('SMEMBERS', key('roots'))) do
  local model, pinned = string.match(root, '^(%S+) (%S+)$')
  if redis.call('EXISTS', turn_root(model, pinned)) == 0 then
    redis.call('SREM', key('roots'), root)
  else
    roots[#roots + 1] = root
  end
end
local expired = {}
for _, token in ipairs(expired_leases(now_us(), tonumber(ARGV[1]))) do
  expired[#expired + 1] = redis.call('HGET', key('lease', token), 'model') or ''
end
return {roots, expired, redis.call('ZCARD', key('finalise'))}
