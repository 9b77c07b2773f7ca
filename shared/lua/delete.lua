-- uses: keys turns blocks
--
-- Forget a sweep: O(blocks); big keys are freed in the background. Leases on it end by themselves,
-- their commits are stale. Images in storage stay.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id, 2 token of this call
-- Reply 1, or 0 when there was none
--
-- Touches  every key of the sweep (unlinked), the trees: turn:*, fill:* (zset), roots (set),
--   sweeps, finalise (zset), gone:TOKEN (string)

local id, token = ARGV[1], ARGV[2]
if redis.call('EXISTS', key('gone', token)) == 1 then
  return 1
end
if redis.call('EXISTS', key('sweep', id)) == 0 then
  return 0
end
wipe(id)
redis.call('SET', key('gone', token), '', 'PX', 600000)
return 1
