-- uses: keys turns leases
--
-- Which models have claimable work, for workers with any weights or with one pin. Jobs under
-- expired leases count: the next claim reaps them.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 pin ('' for any)
-- Reply models, each perhaps more than once
--
-- Touches  roots (set, less those without work), turn:MODEL:PIN (zset), leases (zset), lease:TOKEN
--   (hash)

-- Expired leases looked at; where there are more, the others have their turn later.
local MAX_EXPIRED = 64

local pinned = pin_name(ARGV[1])
local models = {}
for _, root in ipairs(redis.call('SMEMBERS', key('roots'))) do
  local model, its_pin = string.match(root, '^(%S+) (%S+)$')
  if redis.call('EXISTS', turn_root(model, its_pin)) == 0 then
    redis.call('SREM', key('roots'), root)
  elseif pinned == UNPINNED or its_pin == UNPINNED or its_pin == pinned then
    models[#models + 1] = model
  end
end
for _, token in ipairs(expired_leases(now_us(), MAX_EXPIRED)) do
  local model = redis.call('HGET', key('lease', token), 'model')
  if model then
    models[#models + 1] = model
  end
end
return models
