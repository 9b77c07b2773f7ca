-- uses: keys turns blocks
--
-- Objects of done jobs are gone from storage: un-do their positions. A finished sweep is reopened
-- under a new epoch; one that is under way goes on in its own, and no lease notices. A long list
-- comes in numbered chunks under one token, all naming the epoch the list was made for.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id, 2 epoch the list was made for, 3 token of the list, 4 number of this chunk
--       (from 1), 5 'position,...' ascending
-- Reply positions that were done and are not any more; -1 when the sweep is unknown, -2 when it is
--       cancelled or of another epoch
--
-- Touches
--   sweep:ID (hash), bits:ID:SEGMENT (string), segments:ID (hash), blocks:ID (zset), tries:ID,
--   cursors:ID (hash), retry:ID:BLOCK, solo:ID:BLOCK (set), open:ID:MODEL, lanes:ID (zset), the
--   trees: turn:*, fill:* (zset), roots (set), clock:* (hash), finalise (zset), epoch (string)

local id, epoch, token, chunk = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local sweep = load_sweep(id)
if not sweep then
  return -1
end
local last = redis.call('HMGET', key('sweep', id), 'repair_token', 'repair_chunk', 'repaired')
local continued = last[1] == token
if continued and tonumber(last[2]) >= chunk then
  return tonumber(last[3])
end
if sweep.state == 'cancelled' or not (continued or sweep.epoch == epoch) then
  return -2
end

local undone = {}
for _, position in ipairs(split(ARGV[5])) do
  local segment = math.floor(position / SEGMENT_BITS)
  if segment >= 0 and tonumber(position) < sweep.total
      and redis.call('SETBIT', key('bits', id, segment), position % SEGMENT_BITS, 0) == 1 then
    redis.call('HINCRBY', key('segments', id), segment, -1)
    undone[#undone + 1] = position
  end
end
if #undone > 0 then
  sweep.done = sweep.done - #undone
  redis.call('HSET', key('sweep', id), 'done', sweep.done, 'repair_token', token,
    'repair_chunk', chunk, 'repaired', #undone)
  if sweep.state == 'done' or sweep.state == 'finalising' then
    reopen(sweep, now_us())
  end
  each_block(id, undone, function(block, run)
    -- What the cursor has passed is claimed again from the retry set; the rest as it comes.
    local at, left = load_cursor(id, block)
    local passed = {}
    for _, position in ipairs(run) do
      if position - block.offset < at then
        passed[#passed + 1] = position
      else
        left = left + 1
      end
    end
    save_cursor(id, block, at, left)
    put_back(sweep, block, passed)
    index_block(sweep, block)
  end)
end
return #undone
