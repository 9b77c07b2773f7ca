-- Whose turn it is: fair sharing by virtual time.
--
-- A sweep with claimable jobs of a model is listed in trees of three levels of sorted sets:
--
--   ROOT                   priority -> priority
--   ROOT:PRIORITY          owner    -> owner's virtual time
--   ROOT:PRIORITY:OWNER    sweep    -> sweep's virtual time
--
-- One tree per model and pin ("turn") decides who is next; one per model, pin, lane and recipe
-- ("fill") completes a batch. Sweeps nobody has claimed from yet are under the pin "-", and move
-- when they are pinned: workers that loaded other weights never even see them.
--
-- The true virtual times are fields of the sweep and clock hashes. In the trees that fill, and not
-- every batch asks for one, a score may lag behind its truth: heads are corrected when they are
-- looked at. (After a refund it may also run ahead by as much in trees other than the one that the
-- jobs came from, which only delays.)

local UNPINNED = '-'

-- Bounds the heads corrected in one look; past it the order is a little stale, and that is all.
local MAX_CORRECTIONS = 128

-- Fields of a clock, two an owner, from which on owners who have nothing claimable are forgotten;
-- and how many are looked at for each new one.
local MANY_CLOCKS = 512
local CLOCKS_LOOKED_AT = 16

local function pin_name(pin)
  if not pin or pin == '' then
    return UNPINNED
  end
  return string.sub(redis.sha1hex(pin), 1, 16)
end

-- The pin under which a sweep is listed for a model.
local function sweep_pin(sweep, model)
  sweep.pins = sweep.pins or {}
  if not sweep.pins[model] then
    sweep.pins[model] = pin_name(redis.call('HGET', key('sweep', sweep.id), 'pin:' .. model))
  end
  return sweep.pins[model]
end

local function turn_root(model, pinned)
  return key('turn', model, pinned)
end

local function fill_root(model, pinned, lane, recipe)
  return key('fill', model, pinned) .. ':' .. lane .. ':' .. recipe
end

local function clock_key(model, priority)
  return key('clock', model, priority)
end

-- Whether an owner has claimable sweeps of a model and priority, whatever they are pinned to.
local function owner_listed(model, priority, owner)
  for _, root in ipairs(redis.call('SMEMBERS', key('roots'))) do
    local its_model, pinned = string.match(root, '^(%S+) (%S+)$')
    local owners = its_model == model and turn_root(model, pinned) .. ':' .. priority
    if owners and redis.call('ZSCORE', owners, owner) then
      return true
    end
  end
  return false
end

-- Where the clocks of many owners are kept, forget some who have nothing claimable: for each new
-- one a few are looked at, so that there are never many more than have. Who was forgotten and comes
-- back starts at the clock, as a newcomer does.
local function forget_owners(model, priority)
  local clocks = clock_key(model, priority)
  if redis.call('HLEN', clocks) <= MANY_CLOCKS then
    return
  end
  for _, field in ipairs(redis.call('HRANDFIELD', clocks, CLOCKS_LOOKED_AT)) do
    local owner = string.match(field, '^%l+:(.*)$')
    if owner and not owner_listed(model, priority, owner) then
      redis.call('HDEL', clocks, 'owner:' .. owner, 'clock:' .. owner)
    end
  end
end

-- Enter a sweep in the tree of a model's turns. A newcomer starts at the clock, never before it.
local function enter_turns(sweep, model, pinned)
  local root = turn_root(model, pinned)
  local owners = root .. ':' .. sweep.priority
  local sweeps = owners .. ':' .. sweep.owner
  if redis.call('ZSCORE', sweeps, sweep.id) then
    return
  end
  local clocks = clock_key(model, sweep.priority)
  local row = redis.call('HMGET', clocks, 'clock', 'owner:' .. sweep.owner,
    'clock:' .. sweep.owner)
  if not row[2] then
    forget_owners(model, sweep.priority)
  end
  local owner_vt = tonumber(row[2]) or 0
  if not redis.call('ZSCORE', owners, sweep.owner) then
    owner_vt = math.max(owner_vt, tonumber(row[1]) or 0)
    redis.call('HSET', clocks, 'owner:' .. sweep.owner, owner_vt)
  end
  local vt = math.max(tonumber(redis.call('HGET', key('sweep', sweep.id), 'vt:' .. model)) or 0,
    tonumber(row[3]) or 0)
  redis.call('HSET', key('sweep', sweep.id), 'vt:' .. model, vt)
  redis.call('ZADD', root, sweep.priority, sweep.priority)
  redis.call('ZADD', owners, owner_vt, sweep.owner)
  redis.call('ZADD', sweeps, vt, sweep.id)
  redis.call('SADD', key('roots'), model .. ' ' .. pinned)
end

-- Virtual times of a sweep and its owner.
local function virtual_times(sweep, model)
  return redis.call('HGET', key('sweep', sweep.id), 'vt:' .. model) or 0,
    redis.call('HGET', clock_key(model, sweep.priority), 'owner:' .. sweep.owner) or 0
end

-- Enter a sweep in the tree that fills batches of one lane and recipe.
local function enter_fill(sweep, model, pinned, lane, recipe, vt, owner_vt)
  local root = fill_root(model, pinned, lane, recipe)
  local owners = root .. ':' .. sweep.priority
  redis.call('ZADD', root, sweep.priority, sweep.priority)
  redis.call('ZADD', owners, owner_vt, sweep.owner)
  redis.call('ZADD', owners .. ':' .. sweep.owner, vt, sweep.id)
end

-- Take a sweep out of a tree, and the owner and priority with it if it was their last.
local function leave(root, priority, owner, id)
  local owners = root .. ':' .. priority
  local sweeps = owners .. ':' .. owner
  redis.call('ZREM', sweeps, id)
  if redis.call('EXISTS', sweeps) == 0 then
    redis.call('ZREM', owners, owner)
    if redis.call('EXISTS', owners) == 0 then
      redis.call('ZREM', root, priority)
    end
  end
end

local function leave_turns(sweep, model, pinned)
  leave(turn_root(model, pinned), sweep.priority, sweep.owner, sweep.id)
end

local function leave_fill(sweep, model, pinned, lane, recipe)
  leave(fill_root(model, pinned, lane, recipe), sweep.priority, sweep.owner, sweep.id)
end

-- The member with the least true virtual time, and that time.
local function least(sorted_set, truth)
  local head, vt
  for _ = 1, MAX_CORRECTIONS do
    head = redis.call('ZRANGE', sorted_set, 0, 0, 'WITHSCORES')
    if not head[1] then
      return nil
    end
    local score = tonumber(head[2])
    vt = truth(head[1]) or score
    if vt <= score then
      return head[1], vt
    end
    redis.call('ZADD', sorted_set, vt, head[1])
  end
  return head[1], vt
end

local function sweep_truth(model)
  return function(id)
    local vt = redis.pcall('HGET', key('sweep', id), 'vt:' .. model)
    return type(vt) == 'string' and tonumber(vt) or nil
  end
end

-- Who is next over several trees of one model: highest priority, then the owner, then the sweep
-- with the least virtual time. Returns {root, priority, owner, id, owner_vt, vt} or nil.
local function next_turn(model, roots)
  local heads, priority = {}, nil
  for i, root in ipairs(roots) do
    heads[i] = redis.call('ZREVRANGE', root, 0, 0)[1]
    if heads[i] and (not priority or tonumber(heads[i]) > tonumber(priority)) then
      priority = heads[i]
    end
  end
  if not priority then
    return nil
  end
  local clocks = clock_key(model, priority)
  local function owner_truth(owner)
    return tonumber(redis.call('HGET', clocks, 'owner:' .. owner))
  end
  local turn
  for i, root in ipairs(roots) do
    if heads[i] == priority then
      local owner, owner_vt = least(root .. ':' .. priority, owner_truth)
      if owner and (not turn or owner_vt < turn.owner_vt or owner == turn.owner) then
        local id, vt = least(root .. ':' .. priority .. ':' .. owner, sweep_truth(model))
        if id and not (turn and owner == turn.owner and turn.vt <= vt) then
          turn = {root = root, priority = priority, owner = owner, owner_vt = owner_vt,
            id = id, vt = vt}
        end
      end
    end
  end
  return turn
end

-- Let the scores of a sweep and its owner follow, where they are listed in a tree.
local function rescore(root, sweep, owner_vt, vt)
  local owners = root .. ':' .. sweep.priority
  redis.call('ZADD', owners, 'XX', owner_vt, sweep.owner)
  redis.call('ZADD', owners .. ':' .. sweep.owner, 'XX', vt, sweep.id)
end

-- Charge virtual time for jobs to a sweep and its owner; with jobs below zero, refund it. The
-- clocks follow whoever is served in turn, and never go back. Other fields of the sweep that are to
-- be written may come along.
local function charge(sweep, block, jobs, in_turn, ...)
  local amount = block.cost * jobs / sweep.weight
  local model, owner = block.model, sweep.owner
  local clocks, hash = clock_key(model, sweep.priority), key('sweep', sweep.id)
  local row = redis.call('HMGET', clocks, 'owner:' .. owner, 'clock', 'clock:' .. owner)
  local owner_was = tonumber(row[1]) or 0
  if sweep.vt == nil then
    sweep.vt = redis.call('HGET', hash, 'vt:' .. model)
  end
  local was = tonumber(sweep.vt) or 0
  local owner_vt, vt = math.max(0, owner_was + amount), math.max(0, was + amount)
  redis.call('HSET', hash, 'vt:' .. model, vt, ...)
  sweep.vt = nil
  if in_turn then
    redis.call('HSET', clocks, 'owner:' .. owner, owner_vt,
      'clock', math.max(tonumber(row[2]) or 0, owner_was),
      'clock:' .. owner, math.max(tonumber(row[3]) or 0, was))
  else
    redis.call('HSET', clocks, 'owner:' .. owner, owner_vt)
  end
  local pinned = sweep_pin(sweep, model)
  rescore(turn_root(model, pinned), sweep, owner_vt, vt)
  if jobs < 0 then
    rescore(fill_root(model, pinned, block.lane, block.recipe), sweep, owner_vt, vt)
  end
end
