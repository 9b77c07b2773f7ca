-- uses: keys turns blocks leases
--
-- Lease the finalise item of a sweep whose every job is done or dead.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 token, 2 lease in microseconds
-- Reply {'claimed', sweep id, epoch}, {'none'}, or {'gone'} when a lease of this token is over
--
-- Touches
--   finalise (zset), sweep:ID (hash), lease:TOKEN (hash), leases (zset), gone:TOKEN (string), and
--   through reaping a few expired leases what reap touches

local token, lease_us = ARGV[1], tonumber(ARGV[2])

-- Items looked at for one whose sweep still waits for it; the others are dropped.
local MAX_ITEMS = 8

local REAP_PER_CLAIM = 4

local now = now_us()
if remembered(token) then
  return {'gone'}
end
local known = redis.call('HMGET', key('lease', token), 'kind', 'sweep', 'epoch')
if known[1] then
  if known[1] == 'finalise' and live_lease(token, now) then
    return {'claimed', known[2], known[3]}
  end
  return {'gone'}
end
reap(now, REAP_PER_CLAIM)

for _ = 1, MAX_ITEMS do
  local id = redis.call('ZPOPMIN', key('finalise'))[1]
  if not id then
    break
  end
  local sweep = unless_malformed(load_sweep, id)
  if sweep and sweep.state == 'finalising' then
    redis.call('HSET', key('sweep', id), 'finaliser', token)
    redis.call('HSET', key('lease', token), 'kind', 'finalise', 'sweep', id, 'epoch', sweep.epoch,
      'phase', 'uploading', 'phase_until', now + PHASE_US.uploading)
    redis.call('ZADD', key('leases'), now + lease_us, token)
    return {'claimed', id, sweep.epoch}
  end
end
return {'none'}
