-- uses: keys turns blocks leases
--
-- End a sweep whose index has been written; a cancelled one stays cancelled.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 token of the finalise item, 2 sweep id, 3 epoch
-- Reply 'ok', or 'gone' when the item is not this token's any more
--
-- Touches  sweep:ID (hash), lease:TOKEN (hash), leases (zset), gone:TOKEN (string)

local token, id, epoch = ARGV[1], ARGV[2], ARGV[3]
local sweep = load_sweep(id)
if not sweep or sweep.epoch ~= epoch or finaliser_of(id) ~= token then
  return 'gone'
end
if sweep.state == 'finalising' then
  redis.call('HSET', key('sweep', id), 'state', 'done', 'finished_at', now_us())
  end_lease(token)
elseif redis.call('EXISTS', key('lease', token)) == 1 then
  end_lease(token)
end
return 'ok'
