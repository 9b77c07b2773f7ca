-- uses: keys
--
-- Say that weights are about to be loaded, or ask whether they should be: what ended several
-- workers in a row while they loaded it is let alone for a while, then tried by one.
--
-- KEYS  1 seedbed:{POOL}
-- ARGV  1 what is loaded and on what, 2 how many ends are enough, 3 microseconds it is then let
--       alone after each
-- Reply 0, and the loading is counted until its field is deleted; or how many have ended, and it
--       is to be let alone
--
-- Touches  loads (hash)

local what, enough, rest_us = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_us()
local ended, at = string.match(redis.call('HGET', key('loads'), what) or '', '^(%d+) (%d+)$')
ended, at = tonumber(ended) or 0, tonumber(at) or 0
-- a time that is yet to come means that the clock was set back
if ended >= enough and at <= now and now < at + rest_us then
  return ended
end
redis.call('HSET', key('loads'), what, string.format('%d %.0f', ended + 1, now))
return 0
