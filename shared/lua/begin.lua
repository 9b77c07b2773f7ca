-- uses: keys leases
--
-- Say that jobs of a lease are about to go to the GPU: only such jobs are charged an attempt if
-- the worker vanishes. Renewals go on for gpu_seconds at most.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 token, 2 bound of the GPU phase in microseconds, 3... sweep id, 'position,...'
-- Reply {'ok'}, or {'gone'} when the lease is over
--
-- Touches  leases (zset), lease:TOKEN (hash)

local token, bound_us = ARGV[1], tonumber(ARGV[2])
local now = now_us()
if not live_lease(token, now) then
  return {'gone'}
end
local fields = {'phase', 'gpu', 'phase_until', now + bound_us}
for i = 3, #ARGV, 2 do
  local begun, positions = begun_jobs(token, ARGV[i]), split(ARGV[i + 1])
  for position in pairs(begun) do
    positions[#positions + 1] = position
  end
  fields[#fields + 1] = 'begun ' .. ARGV[i]
  fields[#fields + 1] = table.concat(positions, ',')
end
redis.call('HSET', key('lease', token), unpack(fields))
return {'ok'}
