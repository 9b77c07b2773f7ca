-- uses: keys turns blocks
--
-- Stop handing out the jobs of a running sweep: O(blocks). Jobs already leased go on.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id, 2 why, where a worker refuses it (optional)
-- Reply the state it is in now, '' when unknown
--
-- Touches  sweep:ID (hash), open:ID:MODEL, lanes:ID (zset), the trees: turn:*, fill:* (zset),
--   roots (set)

local sweep = load_sweep(ARGV[1])
if not sweep then
  return ''
end
if sweep.state == 'running' then
  unlist(sweep)
  sweep.state = 'paused'
  redis.call('HSET', key('sweep', sweep.id), 'state', 'paused')
  if ARGV[2] then
    redis.call('HSET', key('sweep', sweep.id), 'refused', ARGV[2])
  end
end
return sweep.state
