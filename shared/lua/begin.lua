-- uses: keys leases
--
-- Say that jobs of a lease are about to go to the GPU, and that none of its others is on it any
-- more: only such jobs are charged an attempt if the worker vanishes. Renewals go on for
-- gpu_seconds at most.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 token, 2 bound of the GPU phase in microseconds, 3 worker, 4... sweep id, 'position,...'
-- Reply {'ok'}, or {'gone'} when the lease is over
--
-- Touches  leases (zset), lease:TOKEN (hash)

local token, bound_us = ARGV[1], tonumber(ARGV[2])
local now = now_us()
if not live_lease(token, now) then
  return {'gone'}
end
local begun = {}
for i = 4, #ARGV, 2 do
  begun[ARGV[i]] = ARGV[i + 1]
end
redis.call('HSET', key('lease', token), 'phase', 'gpu', 'phase_until', now + bound_us,
  'worker', ARGV[3], 'begun', cmsgpack.pack(begun))
return {'ok'}
