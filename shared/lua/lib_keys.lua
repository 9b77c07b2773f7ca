-- What every script needs: key names, Redis' clock, tokens, epochs, reading a sweep and a block.
--
-- KEYS[1] is "seedbed:{POOL}"; every other key is derived from it and so shares its hash tag.
-- shared/keys.py has the same names with the type and content of each.

local BASE = KEYS[1]

-- Done bits are kept in strings of this many bits, so that no SETBIT allocates more than 128 KiB.
local SEGMENT_BITS = 1048576

local function key(kind, id, part)
  if part then
    return BASE .. ':' .. kind .. ':' .. id .. ':' .. part
  elseif id then
    return BASE .. ':' .. kind .. ':' .. id
  end
  return BASE .. ':' .. kind
end

-- Positions travel as text, '3,4,5': one argument costs a client less than many.
local function split(text)
  local parts = {}
  for part in string.gmatch(text, '[^,]+') do
    parts[#parts + 1] = part
  end
  return parts
end

local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- A token that has done its work is remembered for this long, so that a script which Redis is sent
-- again does not do it twice. It outlives every retry of a client's connection.
local TOMBSTONE_MS = 600000

local function remember(token)
  redis.call('SET', key('gone', token), '', 'PX', TOMBSTONE_MS)
end

local function remembered(token)
  return redis.call('EXISTS', key('gone', token)) == 1
end

-- Epochs never repeat: not after delete (the counter is the pool's), not after FLUSHALL (the time).
local function mint_epoch(now)
  local last = tonumber(redis.call('GET', key('epoch')) or 0) or 0
  local epoch = string.format('%.0f', math.max(last + 1, now))
  redis.call('SET', key('epoch'), epoch)
  return epoch
end

-- Count something of a model for whoever watches the pool; nothing is decided by it.
local function tally(model, what, count)
  redis.call('HINCRBY', key('tallies'), model .. ' ' .. what, count)
end

-- A sweep as a table, or nil if there is none or it is not one we could have written. A claim names
-- three fields more, what the sweep holds of its model: one command costs less than four.
local function load_sweep(id, ...)
  local row = redis.call('HMGET', key('sweep', id), 'state', 'epoch', 'owner', 'priority',
    'weight', 'total', 'done', 'reused', 'bytes', 'models', ...)
  local sweep = {
    id = id, state = row[1], epoch = row[2], owner = row[3], priority = row[4],
    weight = tonumber(row[5]), total = tonumber(row[6]), done = tonumber(row[7]),
    reused = tonumber(row[8]), bytes = tonumber(row[9]), models = row[10],
    pin = row[11], vt = row[12], affine = row[13],
  }
  if sweep.state and sweep.epoch and sweep.owner and tonumber(sweep.priority) and sweep.weight
      and sweep.total and sweep.done and sweep.reused and sweep.bytes and sweep.models then
    return sweep
  end
  return nil
end

local function parse_block(row)
  if not row[1] then
    return nil
  end
  local number, model, lane, recipe, size, cost =
    string.match(row[1], '^(%d+) (%S+) (%S+) (%S+) (%d+) (%S+)$')
  if not (number and tonumber(cost)) then
    return nil
  end
  return {
    number = tonumber(number), model = model, lane = lane, recipe = recipe,
    size = tonumber(size), cost = tonumber(cost), offset = tonumber(row[2]),
  }
end

-- Blocks are scored by their offset, so that a block's number is its rank.
local function block_by_number(id, number)
  return parse_block(redis.call('ZRANGE', key('blocks', id), number, number, 'WITHSCORES'))
end

local function block_by_position(id, position)
  return parse_block(redis.call('ZREVRANGEBYSCORE', key('blocks', id), position, '-inf',
    'WITHSCORES', 'LIMIT', 0, 1))
end

-- Runs action; nil where it met a key of another type, which is somebody else's or broken.
-- Anything else that goes wrong goes on: out of memory, a mistake of ours, SCRIPT KILL.
local function unless_malformed(action, ...)
  local ok, result = pcall(action, ...)
  if ok then
    return result
  end
  local text = type(result) == 'table' and result.err or tostring(result)
  if not string.find(text, 'WRONGTYPE', 1, true) then
    error(result, 0)
  end
  return nil
end
