-- uses: keys turns blocks leases
--
-- Report that one job of a lease failed. It is charged an attempt if it had begun, and goes to the
-- retry set, the solo set or the dead.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 token, 2 sweep id, 3 position, 4 reason, 5 worker, 6 permanent (0 or 1: dead at once)
-- Reply 'ok', or 'gone' when the lease does not hold this job
--
-- Touches
--   leased:ID, tries:ID, failures:ID (hash), dead:ID (set), lease:TOKEN (hash), leases (zset),
--   gone:TOKEN (string), sweep:ID (hash), blocks:ID (zset), cursors:ID (hash), retry:ID:BLOCK,
--   solo:ID:BLOCK (set), open:ID:MODEL, lanes:ID (zset), the trees: turn:*, fill:* (zset), roots
--   (set), clock:* (hash), finalise (zset), tallies (hash)

local token, id, position = ARGV[1], ARGV[2], ARGV[3]
local now = now_us()
if redis.call('HGET', key('leased', id), position) ~= token then
  local failure = redis.call('HGET', key('failures', id), position)
  return failure and cjson.decode(failure).token == token and 'ok' or 'gone'
end
local sweep = load_sweep(id)
local block = sweep and block_by_position(id, position)
if not block then
  return 'gone'
end
local begun = begun_jobs(token, id)[position]
drop(id, token, {position})
if sweep.state == 'cancelled' then
  index_cancelled(sweep)
  return 'ok'
end
if not begun then
  charge(sweep, block, -1)
end
local dead = blame(sweep, position, {
  reason = ARGV[4], worker = ARGV[5], token = token, charged = begun, permanent = ARGV[6] == '1',
}, now)
if dead then
  complete(sweep)
else
  put_back(sweep, block, {position})
end
return 'ok'
