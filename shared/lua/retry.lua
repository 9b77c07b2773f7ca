-- uses: keys turns blocks
--
-- Revive dead jobs with a clean slate; a finished sweep is reopened under a new epoch. At most
-- `limit` or the positions given a call: call again until it revives none.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 sweep id, 2 limit, 3 'position,...' ('' for any dead ones)
-- Reply jobs revived, -1 when the sweep is unknown
--
-- Touches
--   sweep:ID (hash), dead:ID (set), tries:ID, failures:ID (hash), blocks:ID (zset), cursors:ID
--   (hash), retry:ID:BLOCK, solo:ID:BLOCK (set), open:ID:MODEL, lanes:ID (zset), the trees:
--   turn:*, fill:* (zset), roots (set), clock:* (hash), finalise (zset), epoch (string)

local sweep = load_sweep(ARGV[1])
if not sweep then
  return -1
end
if sweep.state == 'cancelled' then
  return 0
end
local candidates = split(ARGV[3])
if #candidates == 0 then
  candidates = redis.call('SRANDMEMBER', key('dead', sweep.id), ARGV[2])
end
local revived = {}
for _, position in ipairs(candidates) do
  if redis.call('SREM', key('dead', sweep.id), position) == 1 then
    revived[#revived + 1] = position
  end
end
if #revived == 0 then
  return 0
end
ascending(revived)
redis.call('HDEL', key('tries', sweep.id), unpack(revived))
redis.call('HDEL', key('failures', sweep.id), unpack(revived))
if sweep.state == 'done' or sweep.state == 'finalising' then
  reopen(sweep, now_us())
end
each_block(sweep.id, revived, function(block, run)
  put_back(sweep, block, run)
end)
return #revived
