-- uses: keys turns leases
--
-- Where the pool's open jobs are, for whoever scales and watches it; nothing is written. A page is of
-- one moment: O(blocks with claimable jobs, up to most_blocks and a sweep more, and leases, up to
-- most_leases). Where there are more, ask again for the next page.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 most_blocks, 2 most_leases, 3 sweeps and 4 leases of the pages before
-- Reply {now in microseconds,
--        {{model, pin, lane, recipe, claimable jobs, their cost}...},
--        {{model, lane, recipe, jobs held}...},
--        {{model, submission of the oldest sweep with claimable jobs, in microseconds}...},
--        {{model, sweeps to be finalised}...},
--        since when a finalise item has been waiting, in microseconds, '' without one,
--        sweeps in the pool,
--        sweeps with claimable jobs looked at, those left, leases looked at, those left}
--
-- Touches  roots (set), turn:* (zset), sweep:ID, tries:ID (hash), open:ID:MODEL, blocks:ID (zset),
--   solo:ID:BLOCK (set), leases (zset), lease:TOKEN (hash), finalise, sweeps (zset)

local most_blocks, most_leases = tonumber(ARGV[1]), tonumber(ARGV[2])
local sweeps_before, leases_before = tonumber(ARGV[3]), tonumber(ARGV[4])

-- Finalise items whose sweep is looked up; whatever there are more has its turn later.
local MAX_FINALISE = 100

-- Open blocks from which on it is cheaper to read all blocks of a sweep at once.
local MANY_BLOCKS = 16

-- Add numbers to the row of `rows` that these texts name; by_name finds it again.
local function add(rows, by_name, texts, number, other)
  local name = table.concat(texts, ' ')
  local row = by_name[name]
  if not row then
    row = texts
    row[#row + 1] = 0
    row[#row + 1] = 0
    rows[#rows + 1], by_name[name] = row, row
  end
  row[#row - 1] = row[#row - 1] + number
  row[#row] = row[#row] + (other or 0)
end

local waiting, waiting_by_name, oldest = {}, {}, {}
local blocks_read, sweeps_passed, sweeps_read, sweeps_left = 0, 0, 0, 0

local function look_at_sweep(model, pinned, id)
  local open = redis.call('ZRANGE', key('open', id, model), 0, -1, 'WITHSCORES')
  blocks_read = blocks_read + math.max(1, #open / 2)
  -- A suspect has been tried before.
  local suspects = redis.call('EXISTS', key('tries', id)) == 1
  local all = #open > 2 * MANY_BLOCKS and redis.call('ZRANGE', key('blocks', id), 0, -1, 'WITHSCORES')
  for i = 1, #open, 2 do
    local number = tonumber(open[i])
    local block = all and parse_block({all[2 * number + 1], all[2 * number + 2]})
      or not all and block_by_number(id, number)
    if block then
      local jobs = tonumber(open[i + 1])
      if suspects then
        jobs = jobs + redis.call('SCARD', key('solo', id, number))
      end
      add(waiting, waiting_by_name, {model, pinned, block.lane, block.recipe}, jobs,
        jobs * block.cost)
    end
  end
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
      local count = redis.call('ZCARD', sweeps)
      local skipped = math.min(count, math.max(0, sweeps_before - sweeps_passed))
      sweeps_passed = sweeps_passed + count
      if blocks_read >= most_blocks then
        sweeps_left = sweeps_left + count - skipped
      elseif skipped < count then
        for _, id in ipairs(redis.call('ZRANGE', sweeps, skipped, -1)) do
          if blocks_read >= most_blocks then
            sweeps_left = sweeps_left + 1
          else
            sweeps_read = sweeps_read + 1
            unless_malformed(look_at_sweep, model, pinned, id)
          end
        end
      end
    end
  end
end

local held, held_by_name = {}, {}
local finalising, finalising_by_name = {}, {}

-- An index is anybody's to write: the sweep's first model stands for it.
local function add_item(id)
  local models = redis.call('HGET', key('sweep', id), 'models')
  if models then
    add(finalising, finalising_by_name, {string.match(models, '^%S+')}, 1)
  end
end

local tokens = redis.call('ZRANGE', key('leases'), leases_before, leases_before + most_leases - 1)
for _, token in ipairs(tokens) do
  local row = redis.call('HMGET', key('lease', token), 'kind', 'model', 'lane', 'recipe', 'held',
    'sweep')
  if row[1] == 'jobs' then
    add(held, held_by_name, {row[2], row[3], row[4]}, tonumber(row[5]))
  elseif row[1] == 'finalise' then
    unless_malformed(add_item, row[6])
  end
end
local leases_left = math.max(0, redis.call('ZCARD', key('leases')) - leases_before - #tokens)

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
  redis.call('ZCARD', key('sweeps')), sweeps_read, sweeps_left, #tokens, leases_left}
