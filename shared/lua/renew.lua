-- uses: keys leases
--
-- Keep a lease while its work goes on, for as long as its phase may last: queued ten minutes, on
-- the GPU what `begin` said, uploading an hour. A phase's time starts when it is first named. What
-- is uploading has left the GPU: it is not charged for what happens to the worker after that.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 token, 2 lease in microseconds, 3 phase: queued, gpu or uploading
-- Reply {'ok', microseconds left}, or {'gone'} when the lease or its phase is over
--
-- Touches  leases (zset), lease:TOKEN (hash)

local token, lease_us, phase = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local now = now_us()
if not live_lease(token, now) then
  return {'gone'}
end
local row = redis.call('HMGET', key('lease', token), 'phase', 'phase_until')
local phase_until = tonumber(row[2])
if phase ~= row[1] and PHASE_US[phase] then
  phase_until = now + PHASE_US[phase]
  if phase == 'uploading' then
    redis.call('HSET', key('lease', token), 'phase', phase, 'phase_until', phase_until, 'begun', '')
  else
    redis.call('HSET', key('lease', token), 'phase', phase, 'phase_until', phase_until)
  end
end
if phase_until <= now then
  return {'gone'}
end
local deadline = math.min(now + lease_us, phase_until)
redis.call('ZADD', key('leases'), deadline, token)
return {'ok', deadline - now}
