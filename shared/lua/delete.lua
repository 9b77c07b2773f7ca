-- uses: keys turns blocks
--
-- Forget a sweep: O(blocks); big keys are freed in the background. Leases on it end by themselves,
-- their commits are stale. Images in storage stay.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id, 2 token of this call
-- Reply 1, 2 when it was malformed and keys of it may be left, 0 when there was none
--
-- Touches  every key of the sweep (unlinked), the trees: turn:*, fill:* (zset), roots (set),
--   sweeps, finalise (zset), gone:TOKEN (string)

local id, token = ARGV[1], ARGV[2]
if remembered(token) then
  return 1
end
if redis.call('EXISTS', key('sweep', id)) == 0
    and not redis.call('ZSCORE', key('sweeps'), id) then
  return 0
end
local whole = wipe(id)
remember(token)
return whole and 1 or 2
