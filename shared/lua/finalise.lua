-- uses: keys turns blocks leases
--
-- Lease the finalise item of a sweep whose every job is done or dead, or which was cancelled.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 token, 2 lease in microseconds
-- Reply {'claimed', sweep id, epoch}, {'none'}, or {'gone'} when a lease of this token is over
--
-- Touches
--   finalise (zset), sweep:ID (hash), lease:TOKEN (hash), leases (zset), gone:TOKEN (string), and
--   through reaping a few expired leases what reap touches

local token, lease_us = ARGV[1], tonumber(ARGV[2])

-- Items looked at for one whose sweep still waits for it; the others are dropped. Those of a
-- cancelled sweep that another is indexing at this moment wait on.
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

local held, found = {}, nil
for _ = 1, MAX_ITEMS do
  local id = redis.call('ZPOPMIN', key('finalise'))[1]
  if not id then
    break
  end
  local sweep = unless_malformed(load_sweep, id)
  local cancelled = sweep and sweep.state == 'cancelled'
  local finaliser = cancelled and finaliser_of(id)
  if finaliser and live_lease(finaliser, now) then
    held[#held + 1] = id
  elseif cancelled or (sweep and sweep.state == 'finalising') then
    redis.call('HSET', key('sweep', id), 'finaliser', token)
    redis.call('HSET', key('lease', token), 'kind', 'finalise', 'sweep', id, 'epoch', sweep.epoch,
      'phase', 'uploading', 'phase_until', now + FINALISE_US)
    redis.call('ZADD', key('leases'), now + lease_us, token)
    found = {'claimed', id, sweep.epoch}
    break
  end
end
for _, id in ipairs(held) do
  redis.call('ZADD', key('finalise'), now, id)
end
return found or {'none'}
