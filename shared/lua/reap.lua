-- uses: keys turns blocks leases
--
-- End leases whose time is over: their jobs go back to the queue, those that had begun are
-- charged an attempt.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 how many leases at most
-- Reply leases ended
--
-- Touches
--   leases (zset), lease:TOKEN (hash), gone:TOKEN (string), sweep:ID (hash), blocks:ID (zset),
--   cursors:ID, leased:ID, tries:ID, failures:ID (hash), retry:ID:BLOCK, solo:ID:BLOCK, dead:ID
--   (set), open:ID:MODEL, lanes:ID (zset), the trees: turn:*, fill:* (zset), roots (set), clock:*
--   (hash), finalise (zset), tallies (hash)

return reap(now_us(), tonumber(ARGV[1]))
