-- uses: keys turns blocks
--
-- Cancel a sweep: O(blocks). What is not done, dead or leased is cancelled at once, what is leased
-- when its lease ends; late commits still count. Its finalise item is queued as soon as nobody
-- holds a job of it.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id
-- Reply the state it is in now, '' when unknown
--
-- Touches  sweep:ID (hash), blocks:ID (zset), retry:ID:BLOCK, solo:ID:BLOCK (set, unlinked),
--   open:ID:MODEL, lanes:ID (zset), the trees: turn:*, fill:* (zset), roots (set), finalise (zset)

local sweep = load_sweep(ARGV[1])
if not sweep then
  return ''
end
if sweep.state == 'running' or sweep.state == 'paused' then
  if sweep.state == 'running' then
    unlist(sweep)
  end
  sweep.state = 'cancelled'
  redis.call('HSET', key('sweep', sweep.id), 'state', 'cancelled', 'finished_at', now_us())
  for number = 0, redis.call('ZCARD', key('blocks', sweep.id)) - 1 do
    redis.call('UNLINK', key('retry', sweep.id, number), key('solo', sweep.id, number))
  end
  for model in string.gmatch(sweep.models, '%S+') do
    redis.call('UNLINK', key('open', sweep.id, model))
  end
  redis.call('UNLINK', key('lanes', sweep.id))
  index_cancelled(sweep)
end
return sweep.state
