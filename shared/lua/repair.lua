-- uses: keys turns blocks
--
-- Objects of a finished sweep are gone from storage: un-do their positions, and reopen it under a
-- new epoch. A long list comes in numbered chunks that all name the epoch it was made for; later
-- chunks may find the sweep running again already.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id, 2 epoch the list was made for, 3 number of this chunk (from 1),
--       4 'position,...' ascending
-- Reply positions that were done and are not any more; -1 when the sweep is unknown, -2 when it is
--       not finished or of another epoch
--
-- Touches
--   sweep:ID (hash), bits:ID:SEGMENT (string), segments:ID (hash), blocks:ID (zset), tries:ID,
--   cursors:ID (hash), retry:ID:BLOCK, solo:ID:BLOCK (set), open:ID:MODEL, lanes:ID (zset), the
--   trees: turn:*, fill:* (zset), roots (set), clock:* (hash), finalise (zset), epoch (string)

local id, epoch, chunk = ARGV[1], ARGV[2], tonumber(ARGV[3])
local sweep = load_sweep(id)
if not sweep then
  return -1
end
local last = redis.call('HMGET', key('sweep', id), 'repaired_epoch', 'repaired_chunk', 'repaired')
local continued = last[1] == epoch
if continued and tonumber(last[2]) >= chunk then
  return tonumber(last[3])
end
local finished = sweep.state == 'done' or sweep.state == 'finalising'
if sweep.state == 'cancelled' or not (continued or (finished and sweep.epoch == epoch)) then
  return -2
end

local undone = {}
for _, position in ipairs(split(ARGV[4])) do
  local segment = math.floor(position / SEGMENT_BITS)
  if segment >= 0 and tonumber(position) < sweep.total
      and redis.call('SETBIT', key('bits', id, segment), position % SEGMENT_BITS, 0) == 1 then
    redis.call('HINCRBY', key('segments', id), segment, -1)
    undone[#undone + 1] = position
  end
end
if #undone > 0 then
  sweep.done = sweep.done - #undone
  redis.call('HSET', key('sweep', id), 'done', sweep.done, 'repaired_epoch', epoch,
    'repaired_chunk', chunk, 'repaired', #undone)
  if finished then
    reopen(sweep, now_us())
  end
  each_block(id, undone, function(block, run)
    -- Nothing is left beyond a finished block's cursor; what is undone is in its retry set only.
    save_cursor(id, block, block.size, 0)
    put_back(sweep, block, run)
  end)
end
return #undone
