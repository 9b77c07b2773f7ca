-- Where every position of a sweep is, and the indexes that follow from it.
--
-- A position is in exactly one of: beyond its block's cursor, the block's retry set, the block's
-- solo set, leased, done, dead. On a cancelled sweep the first three are called cancelled.
-- "left" counts the positions beyond the cursor that are not done; retry and solo hold none done.

-- Shared tries before a job runs alone, and crashes alone before it is dead.
local SHARED_TRIES = 2
local MAX_ATTEMPTS = 3

-- Failures of one sweep whose reason is kept whole; later ones are cut to CUT_REASON bytes.
local WHOLE_REASONS = 1000
local CUT_REASON = 200

local function block_key(kind, id, block)
  return key(kind, id, block.number)
end

local function load_cursor(id, block)
  local row = redis.call('HMGET', key('cursors', id), block.number .. ':at',
    block.number .. ':left')
  return tonumber(row[1]) or 0, tonumber(row[2]) or block.size
end

local function save_cursor(id, block, at, left)
  redis.call('HSET', key('cursors', id), block.number .. ':at', at, block.number .. ':left', left)
end

-- Sort positions, which are text, by number.
local function ascending(positions)
  table.sort(positions, function(a, b)
    return tonumber(a) < tonumber(b)
  end)
  return positions
end

-- A block's entry in its sweep's index of lanes.
local function lane_member(block)
  return table.concat({block.model, block.lane, block.recipe, block.number}, ' ')
end

-- The first block of a sweep with this lane and recipe that has jobs to share, by number, or nil.
local function block_in_lane(id, model, lane, recipe)
  local prefix = model .. ' ' .. lane .. ' ' .. recipe
  local member = redis.call('ZRANGEBYLEX', key('lanes', id), '[' .. prefix .. ' ',
    '(' .. prefix .. '!', 'LIMIT', 0, 1)[1]
  return member and tonumber(string.match(member, '(%d+)$'))
end

-- Calls visit(lane, recipe) once for each lane and recipe in which a sweep has jobs to share.
local function each_lane(id, model, visit)
  local last
  local members = redis.call('ZRANGEBYLEX', key('lanes', id), '[' .. model .. ' ',
    '(' .. model .. '!')
  for _, member in ipairs(members) do
    local lane, recipe = string.match(member, '^%S+ (%S+) (%S+) %d+$')
    if lane .. ' ' .. recipe ~= last then
      visit(lane, recipe)
      last = lane .. ' ' .. recipe
    end
  end
end

local function enlist_model(sweep, model)
  local pinned = sweep_pin(sweep, model)
  if redis.call('EXISTS', key('open', sweep.id, model)) == 1 then
    enter_turns(sweep, model, pinned)
  end
  local vt, owner_vt = virtual_times(sweep, model)
  each_lane(sweep.id, model, function(lane, recipe)
    enter_fill(sweep, model, pinned, lane, recipe, vt, owner_vt)
  end)
end

local function unlist_model(sweep, model)
  local pinned = sweep_pin(sweep, model)
  leave_turns(sweep, model, pinned)
  each_lane(sweep.id, model, function(lane, recipe)
    leave_fill(sweep, model, pinned, lane, recipe)
  end)
end

-- Enter a sweep in all trees its open blocks call for.
local function enlist(sweep)
  for model in string.gmatch(sweep.models, '%S+') do
    enlist_model(sweep, model)
  end
end

-- Take a sweep out of all trees: nothing of it is claimable until it is enlisted again.
local function unlist(sweep)
  for model in string.gmatch(sweep.models, '%S+') do
    unlist_model(sweep, model)
  end
  return true
end

-- Pin a model of a sweep, which moves it to the trees of those weights. Only once.
local function set_pin(sweep, model, pin)
  local listed = sweep.state == 'running'
  if listed then
    unlist_model(sweep, model)
  end
  redis.call('HSET', key('sweep', sweep.id), 'pin:' .. model, pin)
  sweep.pins = nil
  sweep.vt = nil  -- the other tree may give it another one
  if listed then
    enlist_model(sweep, model)
  end
end

-- Bring the indexes in line with what a block holds now. The fullest block is the one with the
-- most jobs to share: suspects (score 0) come last, where they are in nobody's way.
local function index_block(sweep, block)
  local _, left = load_cursor(sweep.id, block)
  local shared = left + redis.call('SCARD', block_key('retry', sweep.id, block))
  local solo = redis.call('SCARD', block_key('solo', sweep.id, block))
  local open = key('open', sweep.id, block.model)
  local lanes = key('lanes', sweep.id)
  local member = lane_member(block)
  if shared + solo > 0 then
    redis.call('ZADD', open, shared, block.number)
  else
    redis.call('ZREM', open, block.number)
  end
  if shared > 0 then
    redis.call('ZADD', lanes, 0, member)
  else
    redis.call('ZREM', lanes, member)
  end
  if sweep.state ~= 'running' then
    return
  end
  local pinned = sweep_pin(sweep, block.model)
  if redis.call('EXISTS', open) == 1 then
    enter_turns(sweep, block.model, pinned)
  else
    leave_turns(sweep, block.model, pinned)
  end
  if block_in_lane(sweep.id, block.model, block.lane, block.recipe) then
    enter_fill(sweep, block.model, pinned, block.lane, block.recipe,
      virtual_times(sweep, block.model))
  else
    leave_fill(sweep, block.model, pinned, block.lane, block.recipe)
  end
end

-- Visits runs of ascending positions that lie in one block: visit(block, run).
local function each_block(id, positions, visit)
  local block, run = nil, {}
  for _, position in ipairs(positions) do
    if not block or tonumber(position) >= block.offset + block.size then
      if block then
        visit(block, run)
      end
      block, run = block_by_position(id, position), {}
    end
    run[#run + 1] = position
  end
  if block then
    visit(block, run)
  end
end

-- Count ascending positions of a sweep under the models of their blocks.
local function tally_jobs(sweep, positions, what)
  if not string.find(sweep.models, ' ', 1, true) then
    return tally(sweep.models, what, #positions)
  end
  each_block(sweep.id, positions, function(block, run)
    tally(block.model, what, #run)
  end)
end

-- Put positions that nobody holds any more where their tries send them: retry, or solo.
local function put_back(sweep, block, positions)
  if #positions == 0 or sweep.state == 'cancelled' then
    return
  end
  local tries = redis.call('HMGET', key('tries', sweep.id), unpack(positions))
  local retry, solo = {}, {}
  for i, position in ipairs(positions) do
    local set = (tonumber(tries[i]) or 0) < SHARED_TRIES and retry or solo
    set[#set + 1] = position
  end
  if #retry > 0 then
    redis.call('SADD', block_key('retry', sweep.id, block), unpack(retry))
  end
  if #solo > 0 then
    redis.call('SADD', block_key('solo', sweep.id, block), unpack(solo))
  end
  index_block(sweep, block)
end

-- When every position is done or dead, the sweep waits for its finalise item to be taken.
local function complete(sweep)
  if sweep.state ~= 'running' and sweep.state ~= 'paused' then
    return false
  end
  if sweep.done + redis.call('SCARD', key('dead', sweep.id)) < sweep.total then
    return false
  end
  redis.call('HSET', key('sweep', sweep.id), 'state', 'finalising')
  redis.call('ZADD', key('finalise'), now_us(), sweep.id)
  sweep.state = 'finalising'
  return true
end

-- What a cancelled sweep has come to is indexed once nobody holds a job of it any more, and again
-- when more of it is done after that.
local function index_cancelled(sweep)
  if sweep.state == 'cancelled' and redis.call('HLEN', key('leased', sweep.id)) == 0 then
    redis.call('ZADD', key('finalise'), 'NX', now_us(), sweep.id)
  end
end

-- A finished sweep has work again: a new epoch, so that what finalises it next is told apart.
local function reopen(sweep, now)
  sweep.epoch = mint_epoch(now)
  sweep.state = 'running'
  redis.call('HSET', key('sweep', sweep.id), 'epoch', sweep.epoch, 'state', 'running',
    'finished_at', '')
  redis.call('HDEL', key('sweep', sweep.id), 'finaliser')
  redis.call('ZREM', key('finalise'), sweep.id)
  enlist(sweep)
end

-- What is known of a job's last failure: how many of its attempts its worker did not survive, all of
-- them alone, so far; and the last error that a worker reported ('' if none did).
local function last_failure(id, position)
  local row = redis.call('HGET', key('failures', id), position)
  local failure = row and cjson.decode(row) or {}
  return tonumber(failure.kills) or 0, failure.said or failure.reason or ''
end

-- What is said of a job whose worker vanished. Only a job that dies of nothing else is called its
-- cause: any one of these ends may have been a machine's.
local function vanished_reason(alone, kills, said)
  if alone == 0 then
    return 'the worker vanished while it was rendering this job'
  elseif alone < MAX_ATTEMPTS then
    return string.format('the worker vanished while it was rendering this job alone (%d of %d)',
      alone, MAX_ATTEMPTS)
  elseif kills < MAX_ATTEMPTS and said ~= '' then
    return said .. '; the worker of its last attempt vanished'
  end
  return string.format('killed its worker %d time%s while alone', kills, kills == 1 and '' or 's')
end

-- Record an attempt that failed: {reason or vanished, worker, token, charged, permanent}. Returns
-- true when the job is dead of it.
local function blame(sweep, position, attempt, now)
  local tries = tonumber(redis.call('HGET', key('tries', sweep.id), position)) or 0
  if attempt.charged then
    tries = redis.call('HINCRBY', key('tries', sweep.id), position, 1)
  end
  local alone = math.max(0, tries - SHARED_TRIES)
  local dead = attempt.permanent or alone >= MAX_ATTEMPTS
  local kills, said = last_failure(sweep.id, position)
  if redis.call('HLEN', key('failures', sweep.id)) >= WHOLE_REASONS then
    said = string.sub(said, 1, CUT_REASON)
    attempt.reason = attempt.reason and string.sub(attempt.reason, 1, CUT_REASON)
  end
  local reason = attempt.reason
  if attempt.vanished then
    kills = kills + (alone > 0 and 1 or 0)
    reason = vanished_reason(alone, kills, said)
  end
  redis.call('HSET', key('failures', sweep.id), position, cjson.encode({
    attempts = tries, reason = reason, worker = attempt.worker, token = attempt.token,
    at = string.format('%.0f', now), dead = dead, kills = kills,
    said = attempt.vanished and said or nil,
  }))
  if dead then
    redis.call('SADD', key('dead', sweep.id), position)
    tally_jobs(sweep, {position}, 'dead')
  end
  return dead
end

-- Remove the keys of a sweep of so many jobs and blocks; big ones are freed in the background.
local function unlink_keys(id, total, blocks, models)
  local doomed = {}
  for _, kind in ipairs({'sweep', 'manifest', 'blocks', 'lanes', 'cursors', 'leased', 'tries',
      'failures', 'dead', 'segments'}) do
    doomed[#doomed + 1] = key(kind, id)
  end
  for model in string.gmatch(models, '%S+') do
    doomed[#doomed + 1] = key('open', id, model)
  end
  for segment = 0, math.ceil(total / SEGMENT_BITS) - 1 do
    doomed[#doomed + 1] = key('bits', id, segment)
  end
  for number = 0, blocks - 1 do
    doomed[#doomed + 1] = key('retry', id, number)
    doomed[#doomed + 1] = key('solo', id, number)
  end
  for first = 1, #doomed, 1000 do
    redis.call('UNLINK', unpack(doomed, first, math.min(first + 999, #doomed)))
  end
end

-- Forget a sweep. Returns false when what was there is malformed, and keys of it may be left.
local function wipe(id)
  local sweep = unless_malformed(load_sweep, id)
  local blocks = unless_malformed(redis.call, 'ZCARD', key('blocks', id))
  local whole = sweep and blocks and true or false
  if sweep then
    whole = unless_malformed(unlist, sweep) and whole
    unlink_keys(id, sweep.total, blocks or 0, sweep.models)
  else
    unlink_keys(id, 0, blocks or 0, '')
  end
  redis.call('ZREM', key('finalise'), id)
  redis.call('ZREM', key('sweeps'), id)
  return whole
end
