-- uses: keys turns blocks
--
-- Hand out the jobs of a paused sweep again: O(blocks). Its virtual time starts at the clock.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id
-- Reply the state it is in now, '' when unknown
--
-- Touches  sweep:ID (hash), open:ID:MODEL, lanes:ID (zset), the trees: turn:*, fill:* (zset),
--   roots (set), clock:* (hash)

local sweep = load_sweep(ARGV[1])
if not sweep then
  return ''
end
if sweep.state == 'paused' then
  sweep.state = 'running'
  redis.call('HSET', key('sweep', sweep.id), 'state', 'running')
  redis.call('HDEL', key('sweep', sweep.id), 'refused')
  enlist(sweep)
end
return sweep.state
