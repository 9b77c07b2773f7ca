-- uses: keys turns blocks leases
--
-- Claim up to max_jobs jobs of one lane and recipe under a lease: O(jobs claimed).
--
-- Whose turn it is, see lib_turns. From that sweep comes the block whose lane and recipe the
-- worker is on, at most AFFINE_CLAIMS times in a row, else the fullest one. Jobs given back come
-- before the cursor; a suspect comes last and alone. What is then missing to max_jobs is filled
-- from other blocks and sweeps of that lane and recipe, in virtual-time order. Expired leases are
-- not ended here, whose functions would be set up for every claim: the client is told to `reap`.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 token, 2 model, 3 pin, 4 max_jobs, 5 lease in microseconds,
--       6 lane and 7 recipe the worker is on ('' for none), 8 whether to look for expired leases
-- Reply {'claimed', lane, recipe, solo (0 or 1), {{sweep id, epoch, block, 'position,...'}...},
--        whether there is more to claim (0 or 1)},
--       {'none'}, {'expired'}: reap and ask again, or {'gone'} when a lease of this token is over
--
-- Touches
--   gone:TOKEN (string), lease:TOKEN (hash), leases (zset), sweep:ID (hash), blocks:ID (zset),
--   cursors:ID (hash), retry:ID:BLOCK, solo:ID:BLOCK (set), bits:ID:SEGMENT (string),
--   segments:ID (hash), leased:ID (hash), open:ID:MODEL (zset), lanes:ID (zset), the trees:
--   turn:*, fill:* (zset), roots (set), clock:* (hash)

local token, model, pin = ARGV[1], ARGV[2], ARGV[3]
local max_jobs, lease_us = tonumber(ARGV[4]), tonumber(ARGV[5])
local on_lane, on_recipe = ARGV[6], ARGV[7]

-- Claims in a row that may follow the worker's lane and recipe before the fullest other block.
local AFFINE_CLAIMS = 16

-- Blocks looked at for one of another lane or recipe, once the worker has stayed long enough.
local OTHER_BLOCKS = 8

-- Turns that may turn out stale or malformed in one call; each is dropped as it is met.
local MAX_MISSED = 32

-- The first position at or after `bit` of a segment whose done bit is clear, within the segment.
local function next_clear(bits, bit)
  local byte = math.floor(bit / 8)
  local octet = string.byte(redis.call('GETRANGE', bits, byte, byte))
  if not octet then
    return bit
  end
  for i = bit % 8, 7 do
    if math.floor(octet / 2 ^ (7 - i)) % 2 == 0 then
      return byte * 8 + i
    end
  end
  local found = redis.call('BITPOS', bits, 0, byte + 1)
  return found < 0 and (byte + 1) * 8 or found
end

-- Take `want` positions that are not done from the cursor on. Returns them and the new cursor.
local function take_beyond(id, block, at, left, want)
  local taken = {}
  if left == block.size - at then
    for i = 1, want do
      taken[i] = string.format('%d', block.offset + at + i - 1)
    end
    return taken, at + want
  end
  while #taken < want and at < block.size do
    local position = block.offset + at
    local segment, bit = math.floor(position / SEGMENT_BITS), position % SEGMENT_BITS
    local clear = SEGMENT_BITS
    if tonumber(redis.call('HGET', key('segments', id), segment)) ~= SEGMENT_BITS then
      clear = math.min(SEGMENT_BITS, next_clear(key('bits', id, segment), bit))
    end
    at = at + clear - bit
    if clear < SEGMENT_BITS and at < block.size then
      taken[#taken + 1] = string.format('%d', block.offset + at)
      at = at + 1
    end
  end
  return taken, math.min(at, block.size)
end

-- Lease up to `want` positions of a block; only a claim's first share may be a suspect, alone.
-- Returns {positions, solo}, or nil if it has none.
local function take(sweep, block, want, first)
  local id = sweep.id
  local retry, solo = block_key('retry', id, block), block_key('solo', id, block)
  local at, left = load_cursor(id, block)
  local retries = redis.call('SCARD', retry)
  local positions, alone = {}, false
  if retries + left > 0 then
    local again = math.min(want, retries)
    local fresh = math.min(want - again, left)
    if again > 0 then
      positions = ascending(redis.call('SPOP', retry, again))
    end
    if fresh > 0 then
      local taken, moved = take_beyond(id, block, at, left, fresh)
      for _, position in ipairs(taken) do
        positions[#positions + 1] = position
      end
      save_cursor(id, block, moved, left - #taken)
    end
  elseif first and redis.call('SCARD', solo) > 0 then
    positions = {redis.call('SPOP', solo)}
    alone = true
  end
  if #positions == 0 then
    return nil
  end
  local leased = {}
  for i, position in ipairs(positions) do
    leased[2 * i - 1], leased[2 * i] = position, token
  end
  redis.call('HSET', key('leased', id), unpack(leased))
  local shared = retries + left - #positions
  if shared > 0 then
    redis.call('ZADD', key('open', id, block.model), shared, block.number)
  else
    index_block(sweep, block)
  end
  charge(sweep, block, #positions, first, 'affine:' .. model, sweep.affine or 0)
  return {positions = positions, solo = alone}
end

-- The block of a sweep that a worker on (on_lane, on_recipe) takes jobs from, or nil.
local function choose_block(sweep)
  local id, open = sweep.id, key('open', sweep.id, model)
  local near = on_lane ~= '' and block_in_lane(id, model, on_lane, on_recipe)
  if not near then
    local fullest = redis.call('ZREVRANGE', open, 0, 0)[1]
    return fullest and block_by_number(id, tonumber(fullest))
  end
  sweep.affine = (tonumber(sweep.affine) or 0) + 1
  if sweep.affine > AFFINE_CLAIMS then
    sweep.affine = 0
    for _, number in ipairs(redis.call('ZREVRANGE', open, 0, OTHER_BLOCKS - 1)) do
      local other = block_by_number(id, tonumber(number))
      if other and (other.lane ~= on_lane or other.recipe ~= on_recipe) then
        return other
      end
    end
  end
  return block_by_number(id, near)
end

local now = now_us()
local pinned = pin_name(pin)

local function more_to_claim()
  return redis.call('EXISTS', turn_root(model, pinned), turn_root(model, UNPINNED)) > 0 and 1 or 0
end

if redis.call('EXISTS', key('lease', token), key('gone', token)) > 0 then
  local known = redis.call('HMGET', key('lease', token), 'kind', 'lane', 'recipe', 'solo', 'shares')
  if known[1] == 'jobs' and live_lease(token, now) then
    return {'claimed', known[2], known[3], tonumber(known[4]), cmsgpack.unpack(known[5]),
      more_to_claim()}
  end
  return {'gone'}
end
if ARGV[8] == '1' and #expired_leases(now, 1) > 0 then
  return {'expired'}
end

local shares, count = {}, 0
local lane, recipe, solo

-- The first claim of a model pins its sweep to the worker's weights. Returns whether it is ours.
local function pin_sweep(sweep)
  if not sweep.pin then
    set_pin(sweep, model, pin)
  end
  sweep.pins = {[model] = pinned}
  return not sweep.pin or sweep.pin == pin
end

-- Add a share from the sweep whose turn it is: the first from the block chosen for the worker,
-- the others from a block of the same lane and recipe. Returns nil where there is none.
local function add_share(turn)
  local first = #shares == 0
  local sweep = load_sweep(turn.id, 'pin:' .. model, 'vt:' .. model, 'affine:' .. model)
  if not sweep or sweep.state ~= 'running' then
    return nil
  end
  local block
  if first then
    block = choose_block(sweep)
  else
    local number = block_in_lane(sweep.id, model, lane, recipe)
    block = number and block_by_number(sweep.id, number)
  end
  local taken = block and pin_sweep(sweep) and take(sweep, block, max_jobs - count, first)
  if not taken then
    return nil
  end
  shares[#shares + 1] = {sweep.id, sweep.epoch, block.number, table.concat(taken.positions, ',')}
  count = count + #taken.positions
  if first then
    lane, recipe, solo = block.lane, block.recipe, taken.solo and 1 or 0
  end
  return true
end

-- Give turns until there are so many jobs; a sweep that can't use its turn is dropped from the tree
-- that offered it, and so never stands before the others.
local function give_turns(roots, enough)
  local missed = 0
  while count < enough and missed < MAX_MISSED do
    local turn = next_turn(model, roots)
    if not turn then
      return
    end
    if not unless_malformed(add_share, turn) then
      missed = missed + 1
      leave(turn.root, turn.priority, turn.owner, turn.id)
    end
  end
end

give_turns({turn_root(model, pinned), turn_root(model, UNPINNED)}, 1)
if count == 0 then
  return {'none'}
end
if solo == 0 then
  give_turns({fill_root(model, pinned, lane, recipe), fill_root(model, UNPINNED, lane, recipe)},
    max_jobs)
end

redis.call('HSET', key('lease', token), 'kind', 'jobs', 'model', model, 'lane', lane,
  'recipe', recipe, 'solo', solo, 'held', count, 'shares', cmsgpack.pack(shares),
  'phase', 'queued', 'phase_until', now + PHASE_US.queued)
redis.call('ZADD', key('leases'), now + lease_us, token)
return {'claimed', lane, recipe, solo, shares, more_to_claim()}
