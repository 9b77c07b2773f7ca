-- uses: keys turns leases
--
-- Where the pool's open jobs are, for whoever scales and watches it: one look, nothing is written.
-- O(blocks with claimable jobs, up to most_blocks, and leases, up to most_leases).
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 most_blocks, 2 most_leases
-- Reply {now in microseconds,
--        {{model, pin, lane, recipe, claimable jobs, their cost}...},
--        {{model, lane, recipe, jobs held}...},
--        {{model, submission of the oldest sweep with claimable jobs, in microseconds}...},
--        {{model, sweeps to be finalised}...},
--        since when a finalise item has been waiting, in microseconds, '' without one,
--        sweeps in the pool, sweeps with claimable jobs that were not looked at, leases neither}
--
-- Touches  roots (set), turn:* (zset), sweep:ID (hash), open:ID:MODEL, blocks:ID (zset),
--   solo:ID:BLOCK (set), leases (zset), lease:TOKEN (hash), finalise, sweeps (zset)

local most_blocks, most_leases = tonumber(ARGV[1]), tonumber(ARGV[2])

-- Finalise items whose sweep is looked up; whatever there are more is told of its number alone.
local MAX_FINALISE = 100

-- Rows that add up numbers under the texts that name them, in the order they were first met.
local function table_of_sums()
  local rows, by_name = {}, {}
  return rows, function(texts, ...)
    local name = table.concat(texts, ' ')
    local row = by_name[name]
    if not row then
      row = {unpack(texts)}
      for i = 1, select('#', ...) do
        row[#texts + i] = 0
      end
      rows[#rows + 1], by_name[name] = row, row
    end
    for i = 1, select('#', ...) do
      row[#texts + i] = row[#texts + i] + select(i, ...)
    end
  end
end

local waiting, add_waiting = table_of_sums()
local held, add_held = table_of_sums()
local finalising, add_finalising = table_of_sums()
local oldest, blocks_read, unread = {}, 0, 0

local function look_at_sweep(model, pinned, id)
  local open = redis.call('ZRANGE', key('open', id, model), 0, -1, 'WITHSCORES')
  for i = 1, #open, 2 do
    local block = block_by_number(id, tonumber(open[i]))
    if block then
      local jobs = tonumber(open[i + 1]) + redis.call('SCARD', key('solo', id, block.number))
      add_waiting({model, pinned, block.lane, block.recipe}, jobs, jobs * block.cost)
    end
  end
  blocks_read = blocks_read + #open / 2
  local since = tonumber(redis.call('HGET', key('sweep', id), 'submitted_at'))
  if since and #open > 0 then
    oldest[model] = math.min(oldest[model] or since, since)
  end
end

for _, root in ipairs(redis.call('SMEMBERS', key('roots'))) do
  local model, pinned = string.match(root, '^(%S+) (%S+)$')
  local turns = turn_root(model, pinned)
  for _, priority in ipairs(redis.call('ZRANGE', turns, 0, -1)) do
    local owners = turns .. ':' .. priority
    for _, owner in ipairs(redis.call('ZRANGE', owners, 0, -1)) do
      local sweeps = owners .. ':' .. owner
      if blocks_read >= most_blocks then
        unread = unread + redis.call('ZCARD', sweeps)
      else
        for _, id in ipairs(redis.call('ZRANGE', sweeps, 0, -1)) do
          if blocks_read >= most_blocks then
            unread = unread + 1
          else
            unless_malformed(look_at_sweep, model, pinned, id)
          end
        end
      end
    end
  end
end

-- An index is anybody's to write: the sweep's first model stands for it.
local function add_item(id)
  local models = redis.call('HGET', key('sweep', id), 'models')
  if models then
    add_finalising({string.match(models, '^%S+')}, 1)
  end
end

for _, token in ipairs(redis.call('ZRANGE', key('leases'), 0, most_leases - 1)) do
  local row = redis.call('HMGET', key('lease', token), 'kind', 'model', 'lane', 'recipe', 'held',
    'sweep')
  if row[1] == 'jobs' then
    add_held({row[2], row[3], row[4]}, tonumber(row[5]))
  elseif row[1] == 'finalise' then
    unless_malformed(add_item, row[6])
  end
end
local items = redis.call('ZRANGE', key('finalise'), 0, MAX_FINALISE - 1, 'WITHSCORES')
for i = 1, #items, 2 do
  unless_malformed(add_item, items[i])
end

local since = {}
for model, submitted_at in pairs(oldest) do
  since[#since + 1] = {model, string.format('%.0f', submitted_at)}
end
-- Redis cuts a number of Lua's to a whole one; costs are not.
for _, row in ipairs(waiting) do
  row[6] = string.format('%.17g', row[6])
end
return {string.format('%.0f', now_us()), waiting, held, since, finalising, items[2] or '',
  redis.call('ZCARD', key('sweeps')), unread,
  math.max(0, redis.call('ZCARD', key('leases')) - most_leases)}
