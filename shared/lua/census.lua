-- uses: keys turns blocks
--
-- Count the positions of a sweep where they are: O(blocks and segments), a read. Those that Redis
-- has lost keys of are in no place, or the counter of the done ones does not say what the bits say.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id
-- Reply {total, done by the counter, done by the bits, to be claimed, leased, dead}; {} when the
--       sweep is unknown
--
-- Touches
--   sweep:ID (hash), blocks:ID (zset), cursors:ID (hash), retry:ID:BLOCK, solo:ID:BLOCK (set),
--   bits:ID:SEGMENT (string), leased:ID (hash), dead:ID (set)

local sweep = load_sweep(ARGV[1])
if not sweep then
  return {}
end
local claimable, bits = 0, 0
for number = 0, redis.call('ZCARD', key('blocks', sweep.id)) - 1 do
  local block = block_by_number(sweep.id, number)
  local _, left = load_cursor(sweep.id, block)
  claimable = claimable + left + redis.call('SCARD', block_key('retry', sweep.id, block))
    + redis.call('SCARD', block_key('solo', sweep.id, block))
end
for segment = 0, math.ceil(sweep.total / SEGMENT_BITS) - 1 do
  bits = bits + redis.call('BITCOUNT', key('bits', sweep.id, segment))
end
return {sweep.total, sweep.done, bits, claimable, redis.call('HLEN', key('leased', sweep.id)),
  redis.call('SCARD', key('dead', sweep.id))}
