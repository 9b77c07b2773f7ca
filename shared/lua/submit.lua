-- uses: keys turns blocks
--
-- Submit a sweep: O(blocks), whatever the number of jobs.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id, 2 digest, 3 owner, 4 priority, 5 weight, 6 token of this call, 7 manifest,
--       8... for each block: 'model lane recipe size cost'
-- Reply {outcome, state, epoch}: outcome is created, restarted (was cancelled), unchanged, done,
--       conflict (same id, other digest) or malformed (what is under this id is not a sweep)
--
-- Touches
--   sweep:ID (hash), manifest:ID (string), blocks:ID (zset), cursors:ID (hash), open:ID:MODEL
--   (zset), lanes:ID (zset), sweeps (zset), epoch (string), and the trees: turn:*, fill:* (zset),
--   roots (set), clock:* (hash); after a cancelled run every other key of the sweep (unlinked)

local function append(list, score, member)
  list[#list + 1] = score
  list[#list + 1] = member
end

-- ZADD in calls of a size that Lua can unpack.
local function add_all(sorted_set, members)
  for first = 1, #members, 1000 do
    redis.call('ZADD', sorted_set, unpack(members, first, math.min(first + 999, #members)))
  end
end

local id, digest, owner, priority, weight, token, manifest =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local now = now_us()
local outcome = 'created'

if redis.call('EXISTS', key('sweep', id)) == 1 then
  local sweep = unless_malformed(load_sweep, id)
  if not sweep then
    return {'malformed', '', ''}
  end
  local known = redis.call('HMGET', key('sweep', id), 'digest', 'submit_token', 'submit_outcome')
  if known[1] ~= digest then
    return {'conflict', sweep.state, sweep.epoch}
  elseif known[2] == token then
    return {known[3], sweep.state, sweep.epoch}
  elseif sweep.state == 'done' then
    return {'done', sweep.state, sweep.epoch}
  elseif sweep.state ~= 'cancelled' then
    return {'unchanged', sweep.state, sweep.epoch}
  end
  wipe(id)
  outcome = 'restarted'
end

-- Members of the sorted sets to be, as ZADD takes them: score, member, score, member ...
local blocks, lanes, open, models, total = {}, {}, {}, {}, 0
for i = 8, #ARGV do
  local text = (i - 8) .. ' ' .. ARGV[i]
  local block = parse_block({text, total})
  if not open[block.model] then
    open[block.model] = {}
    models[#models + 1] = block.model
  end
  append(blocks, total, text)
  append(lanes, 0, lane_member(block))
  append(open[block.model], block.size, block.number)
  total = total + block.size
end
local sweep = {
  id = id, epoch = mint_epoch(now), owner = owner, priority = priority,
  models = table.concat(models, ' '),
}

-- Whatever is left of a sweep whose hash was lost must not count as done, or be claimed twice.
unlink_keys(id, total, #ARGV - 7, sweep.models)
add_all(key('blocks', id), blocks)
add_all(key('lanes', id), lanes)
for model, members in pairs(open) do
  add_all(key('open', id, model), members)
end
redis.call('SET', key('manifest', id), manifest)
redis.call('HSET', key('sweep', id),
  'state', 'running', 'epoch', sweep.epoch, 'digest', digest, 'owner', owner,
  'priority', priority, 'weight', weight, 'total', total, 'done', 0, 'reused', 0, 'bytes', 0,
  'models', sweep.models, 'submitted_at', now, 'finished_at', '',
  'submit_token', token, 'submit_outcome', outcome)
redis.call('ZADD', key('sweeps'), now, id)
enlist(sweep)
return {outcome, 'running', sweep.epoch}
