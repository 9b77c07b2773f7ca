-- Leases: a client's random token, the jobs it holds, and until when.
--
-- What a token holds is what the sweep's "leased" hash says it holds: positions that were
-- committed by another, or whose sweep was deleted, are no longer the lease's.

-- No lease is longer; a deadline further away means that the clock was set back.
local MAX_LEASE_US = 3600000000

-- How long renewals may go on in a phase; on the GPU, `begin` says how long.
local PHASE_US = {queued = 600000000, uploading = 3600000000}

-- How long one attempt at an index may be renewed: ten million images are an hour's listing.
local FINALISE_US = 21600000000

-- Whether a lease is there and its time is not over.
local function live_lease(token, now)
  local deadline = tonumber(redis.call('ZSCORE', key('leases'), token))
  return deadline and deadline > now and deadline <= now + MAX_LEASE_US
end

local function end_lease(token)
  redis.call('DEL', key('lease', token))
  redis.call('ZREM', key('leases'), token)
  remember(token)
end

-- Those of the positions that the token still holds.
local function still_held(id, token, positions)
  local held = {}
  local holders = redis.call('HMGET', key('leased', id), unpack(positions))
  for i, position in ipairs(positions) do
    if holders[i] == token then
      held[#held + 1] = position
    end
  end
  return held
end

-- Take positions that a lease holds out of it. One that holds nothing more is over: then true.
local function drop(id, token, positions)
  local dropped = redis.call('HDEL', key('leased', id), unpack(positions))
  local held = tonumber(redis.call('HGET', key('lease', token), 'held')) or 0
  if held <= dropped then
    end_lease(token)
    return true
  end
  redis.call('HINCRBY', key('lease', token), 'held', -dropped)
  return false
end

-- The jobs of a lease that are on the GPU, as {position = true}.
local function begun_jobs(token, id)
  local begun, packed = {}, redis.call('HGET', key('lease', token), 'begun') or ''
  for _, position in ipairs(split(packed ~= '' and cmsgpack.unpack(packed)[id] or '')) do
    begun[position] = true
  end
  return begun
end

-- Give the held positions of one share back to the queue. With a blame, see `blame`, those that
-- had begun are charged an attempt; whatever is not charged is refunded.
local function settle(token, share, positions, blamed, now)
  local id, number = share[1], share[3]
  local sweep = load_sweep(id)
  local block = sweep and block_by_number(id, number)
  if not block or #positions == 0 then
    return 0
  end
  local begun = {}
  if blamed and sweep.state ~= 'cancelled' then
    begun = begun_jobs(token, id)
  end
  drop(id, token, positions)
  local back, uncharged, died = {}, 0, false
  for _, position in ipairs(positions) do
    if not begun[position] then
      uncharged = uncharged + 1
      back[#back + 1] = position
    elseif blame(sweep, position, blamed, now) then
      died = true
    else
      back[#back + 1] = position
    end
  end
  if uncharged > 0 then
    charge(sweep, block, -uncharged)
  end
  put_back(sweep, block, back)
  index_cancelled(sweep)
  if died then
    complete(sweep)
  end
  return #positions
end

-- The token under which a sweep is being finalised, or false.
local function finaliser_of(id)
  return redis.call('HGET', key('sweep', id), 'finaliser')
end

-- Put a finalise item back in its queue, unless the sweep was finished or reopened meanwhile. A
-- cancelled sweep stays cancelled, before and after.
local function requeue_finalise(token, id, now)
  local sweep = unless_malformed(load_sweep, id)
  if sweep and (sweep.state == 'finalising' or sweep.state == 'cancelled')
      and finaliser_of(id) == token then
    redis.call('HDEL', key('sweep', id), 'finaliser')
    redis.call('ZADD', key('finalise'), 'NX', now, id)
  end
end

local function expire_lease(token, now)
  local row = redis.call('HMGET', key('lease', token), 'kind', 'shares', 'sweep', 'worker', 'model')
  if row[1] == 'finalise' then
    requeue_finalise(token, row[3], now)
  elseif row[1] == 'jobs' then
    tally(row[5], 'expired', 1)
    local blamed = {vanished = true, worker = row[4] or '', token = token, charged = true}
    for _, share in ipairs(cmsgpack.unpack(row[2])) do
      unless_malformed(function()
        settle(token, share, still_held(share[1], token, split(share[4])), blamed, now)
      end)
    end
  end
  end_lease(token)
end

local function expired_leases(now, limit)
  local tokens = redis.call('ZRANGEBYSCORE', key('leases'), '-inf', now, 'LIMIT', 0, limit)
  if #tokens == 0 then
    tokens = redis.call('ZRANGEBYSCORE', key('leases'), now + MAX_LEASE_US + 1, '+inf',
      'LIMIT', 0, limit)
  end
  return tokens
end

-- End up to `limit` leases whose time is over. Returns how many.
local function reap(now, limit)
  local tokens = expired_leases(now, limit)
  for _, token in ipairs(tokens) do
    expire_lease(token, now)
  end
  return #tokens
end
