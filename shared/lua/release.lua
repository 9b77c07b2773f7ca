-- uses: keys turns blocks leases
--
-- Give jobs of a lease back: no attempt is charged, the virtual time is refunded. A finalise item
-- goes back to its queue.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 token, 2... sweep id, 'position,...' (none: everything the lease holds)
-- Reply jobs given back; 0 when the lease is over
--
-- Touches
--   lease:TOKEN (hash), leases (zset), gone:TOKEN (string), sweep:ID (hash), blocks:ID (zset),
--   cursors:ID, leased:ID, tries:ID (hash), retry:ID:BLOCK, solo:ID:BLOCK (set), open:ID:MODEL,
--   lanes:ID (zset), the trees: turn:*, fill:* (zset), roots (set), clock:* (hash), finalise (zset)

local token = ARGV[1]
local now = now_us()
local row = redis.call('HMGET', key('lease', token), 'kind', 'shares', 'sweep')
if not row[1] then
  return 0
end
if row[1] == 'finalise' then
  requeue_finalise(token, row[3], now)
  end_lease(token)
  return 1
end
local wanted = #ARGV > 1 and {} or nil
for i = 2, #ARGV, 2 do
  for _, position in ipairs(split(ARGV[i + 1])) do
    wanted[ARGV[i] .. ' ' .. position] = true
  end
end
local released = 0
for _, share in ipairs(cmsgpack.unpack(row[2])) do
  local positions = {}
  for _, position in ipairs(still_held(share[1], token, split(share[4]))) do
    if not wanted or wanted[share[1] .. ' ' .. position] then
      positions[#positions + 1] = position
    end
  end
  released = released + settle(token, share, positions, nil, now)
end
if not wanted then
  end_lease(token)
end
return released
