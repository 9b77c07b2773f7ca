-- uses: keys turns blocks leases
--
-- Record stored images of one sweep: O(positions). Accepted within the epoch whoever holds the
-- jobs, also without a lease, on a paused or a cancelled sweep: the work is done.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id, 2 epoch, 3 reused (0 or 1), 4 'position,...' ascending, each once,
--       5 their sizes in bytes, 6 those of them that a safety checker blacked out,
--       7 the committer's token ('' for none), 8 the sum of the sizes
-- Reply {'ok', positions that were not done before, 1 if this completed the sweep else 0,
--        1 if with this the committer's lease holds nothing more and so is over else 0},
--       {'stale'} for an unknown sweep or another epoch, {'range'} for a position it has not
--
-- Touches
--   sweep:ID (hash), bits:ID:SEGMENT (string), segments:ID (hash), leased:ID (hash), blocks:ID
--   (zset), cursors:ID (hash), retry:ID:BLOCK, solo:ID:BLOCK, dead:ID (set), tries:ID,
--   failures:ID (hash), open:ID:MODEL, lanes:ID (zset), the trees: turn:*, fill:* (zset), roots
--   (set), clock:* (hash), finalise (zset), and of the present holders lease:TOKEN (hash), leases
--   (zset), gone:TOKEN (string); tallies (hash)

-- Bits that are set at once where positions follow one another, as those of a claim do: few enough
-- for a Lua number.
local RUN_BITS = 32

local id, epoch, reused = ARGV[1], ARGV[2], ARGV[3] == '1'
local positions, blacked_out = split(ARGV[4]), split(ARGV[6])
local count = #positions
local lowest, highest = tonumber(positions[1]), tonumber(positions[count])
local sweep = load_sweep(id)
if not sweep or sweep.epoch ~= epoch then
  return {'stale'}
end
if lowest < 0 or highest >= sweep.total then
  return {'range'}
end

-- How many positions from the i-th on follow one another, as those of a claim do, within a segment.
local function run_length(i, position)
  local most = math.min(RUN_BITS, SEGMENT_BITS - position % SEGMENT_BITS, count - i + 1)
  if highest - lowest == count - 1 then
    return most
  end
  local length = 1
  while length < most and tonumber(positions[i + length]) == position + length do
    length = length + 1
  end
  return length
end

-- Set the bits of a segment from the i-th position on, a run at a time. Returns what was there
-- before, {first, length, bits}, and the first position of another segment.
local function set_bits(segment, i)
  local operations, runs = {}, {}
  local stop = (segment + 1) * SEGMENT_BITS
  local position = tonumber(positions[i])
  while position and position < stop do
    local length, at = run_length(i, position), #operations
    operations[at + 1], operations[at + 2] = 'SET', 'u' .. length
    operations[at + 3], operations[at + 4] = position % SEGMENT_BITS, 2 ^ length - 1
    runs[#runs + 1] = {first = i, length = length}
    i = i + length
    position = tonumber(positions[i])
  end
  for j, bits in ipairs(redis.call('BITFIELD', key('bits', id, segment), unpack(operations))) do
    runs[j].bits = bits
  end
  return runs, i
end

-- Add those of a run that were not done to the list.
local function add_clear(fresh, run)
  if run.bits == 2 ^ run.length - 1 then
    return
  end
  for k = 1, run.length do
    if math.floor(run.bits / 2 ^ (run.length - k)) % 2 == 0 then
      fresh[#fresh + 1] = positions[run.first + k - 1]
    end
  end
end

local fresh, i = {}, 1
while i <= count do
  local segment = math.floor(positions[i] / SEGMENT_BITS)
  local runs, before = nil, #fresh
  runs, i = set_bits(segment, i)
  for _, run in ipairs(runs) do
    add_clear(fresh, run)
  end
  if #fresh > before then
    redis.call('HINCRBY', key('segments', id), segment, #fresh - before)
  end
end

-- Mostly all of them were not done, and their sum is known.
local bytes, flagged = tonumber(ARGV[8]), #blacked_out
if #fresh < count then
  local sizes, is_fresh = split(ARGV[5]), {}
  for _, position in ipairs(fresh) do
    is_fresh[position] = true
  end
  bytes, flagged = 0, 0
  for j, position in ipairs(positions) do
    bytes = bytes + (is_fresh[position] and sizes[j] or 0)
  end
  for _, position in ipairs(blacked_out) do
    flagged = flagged + (is_fresh[position] and 1 or 0)
  end
end
if #fresh == 0 then
  return {'ok', 0, 0, 0}
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
    local held = by_token[token] or {}
    held[#held + 1] = position
    by_token[token] = held
    leased[#leased + 1] = position
  else
    free[#free + 1] = position
  end
end
local over = 0
for token, positions in pairs(by_token) do
  if drop(id, token, positions) and token == ARGV[7] then
    over = 1
  end
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
local troubled = redis.call('EXISTS', key('tries', id), key('failures', id)) > 0
if troubled then
  redis.call('HDEL', key('tries', id), unpack(fresh))
  redis.call('HDEL', key('failures', id), unpack(fresh))
end
index_cancelled(sweep)
-- The dead are among the failures: without one of these, only done jobs complete a sweep.
local completed = (troubled or sweep.done >= sweep.total) and complete(sweep)
return {'ok', #fresh, completed and 1 or 0, over}
