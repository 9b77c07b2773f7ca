-- uses: keys turns blocks
--
-- Pin a model of a sweep to what has rendered for it, as a first claim does: for a sweep that Redis
-- had lost, whose pins storage remembers.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id, 2 model, 3 pin
-- Reply 1 if it is pinned to this now, 0 where it is pinned to something else or has not the model,
--       -1 when the sweep is unknown
--
-- Touches
--   sweep:ID (hash), open:ID:MODEL, lanes:ID (zset), the trees: turn:*, fill:* (zset), roots (set),
--   clock:* (hash)

local model, pin = ARGV[2], ARGV[3]
local sweep = load_sweep(ARGV[1])
if not sweep then
  return -1
end
if not string.find(' ' .. sweep.models .. ' ', ' ' .. model .. ' ', 1, true) then
  return 0
end
local its_pin = redis.call('HGET', key('sweep', sweep.id), 'pin:' .. model)
if not its_pin then
  set_pin(sweep, model, pin)
end
return (not its_pin or its_pin == pin) and 1 or 0
