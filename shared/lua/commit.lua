-- uses: keys turns blocks leases
--
-- Record stored images of one sweep: O(positions). Accepted within the epoch whoever holds the
-- jobs, also without a lease, on a paused or a cancelled sweep: the work is done.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id, 2 epoch, 3 reused (0 or 1), 4 'position,...' ascending, 5 their sizes in bytes,
--       6 those of them that a safety checker blacked out
-- Reply {'ok', positions that were not done before, 1 if this completed the sweep else 0},
--       {'stale'} for an unknown sweep or another epoch, {'range'} for a position it has not
--
-- Touches
--   sweep:ID (hash), bits:ID:SEGMENT (string), segments:ID (hash), leased:ID (hash), blocks:ID
--   (zset), cursors:ID (hash), retry:ID:BLOCK, solo:ID:BLOCK, dead:ID (set), tries:ID,
--   failures:ID (hash), open:ID:MODEL, lanes:ID (zset), the trees: turn:*, fill:* (zset), roots
--   (set), clock:* (hash), finalise (zset), and of the present holders lease:TOKEN (hash), leases
--   (zset), gone:TOKEN (string); tallies (hash)

local id, epoch, reused = ARGV[1], ARGV[2], ARGV[3] == '1'
local positions, sizes = split(ARGV[4]), split(ARGV[5])
local blacked_out = {}
for _, position in ipairs(split(ARGV[6])) do
  blacked_out[position] = true
end
local sweep = load_sweep(id)
if not sweep or sweep.epoch ~= epoch then
  return {'stale'}
end
if tonumber(positions[1]) < 0 or tonumber(positions[#positions]) >= sweep.total then
  return {'range'}
end

-- Set the bits, a segment at a time, and keep those that were clear.
local fresh, bytes, flagged = {}, 0, 0
local i = 1
while i <= #positions do
  local segment = math.floor(positions[i] / SEGMENT_BITS)
  local operations, first, at = {}, i, 0
  while i <= #positions and math.floor(positions[i] / SEGMENT_BITS) == segment do
    operations[at + 1], operations[at + 2], operations[at + 4] = 'SET', 'u1', '1'
    operations[at + 3] = segment == 0 and positions[i] or positions[i] % SEGMENT_BITS
    at, i = at + 4, i + 1
  end
  local before = #fresh
  for j, was in ipairs(redis.call('BITFIELD', key('bits', id, segment), unpack(operations))) do
    if was == 0 then
      fresh[#fresh + 1] = positions[first + j - 1]
      bytes = bytes + sizes[first + j - 1]
      flagged = flagged + (blacked_out[positions[first + j - 1]] and 1 or 0)
    end
  end
  if #fresh > before then
    redis.call('HINCRBY', key('segments', id), segment, #fresh - before)
  end
end
if #fresh == 0 then
  return {'ok', 0, 0}
end
sweep.done = sweep.done + #fresh
redis.call('HSET', key('sweep', id), 'done', sweep.done, 'bytes', sweep.bytes + bytes,
  'reused', sweep.reused + (reused and #fresh or 0))
tally_jobs(sweep, fresh, 'done')
if reused then
  tally_jobs(sweep, fresh, 'reused')
end
if flagged > 0 then
  redis.call('HINCRBY', key('sweep', id), 'flagged', flagged)
end

-- Done dominates: take them from wherever they were.
local holders = redis.call('HMGET', key('leased', id), unpack(fresh))
local by_token, leased, free = {}, {}, {}
for j, position in ipairs(fresh) do
  local token = holders[j]
  if token then
    by_token[token] = by_token[token] or {}
    table.insert(by_token[token], position)
    leased[#leased + 1] = position
  else
    free[#free + 1] = position
  end
end
for token, positions in pairs(by_token) do
  drop(id, token, positions)
end
if reused then
  each_block(id, leased, function(block, run)
    charge(sweep, block, -#run)
  end)
end
each_block(id, free, function(block, run)
  local at, left = load_cursor(id, block)
  local beyond, behind = 0, {}
  for _, position in ipairs(run) do
    if position - block.offset >= at then
      beyond = beyond + 1
    else
      behind[#behind + 1] = position
    end
  end
  save_cursor(id, block, at, left - beyond)
  if #behind > 0 then
    redis.call('SREM', block_key('retry', id, block), unpack(behind))
    redis.call('SREM', block_key('solo', id, block), unpack(behind))
    redis.call('SREM', key('dead', id), unpack(behind))
  end
  if sweep.state ~= 'cancelled' then
    index_block(sweep, block)
  end
end)
if redis.call('EXISTS', key('tries', id), key('failures', id)) > 0 then
  redis.call('HDEL', key('tries', id), unpack(fresh))
  redis.call('HDEL', key('failures', id), unpack(fresh))
end
index_cancelled(sweep)
return {'ok', #fresh, complete(sweep) and 1 or 0}
