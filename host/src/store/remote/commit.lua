-- Commits a transaction, or says why not. KEYS: the number of the last commit, what came of this one, where
-- numbers are added, the bytes of buckets, the keys with a time to live, the keys of the host that were written; then of each bucket the rows and the
-- keys. ARGV: how long it is kept what came of it, how many keys and bytes a bucket may have, how
-- much all buckets that plugins share may cost; then, each behind
-- their number: the names of the buckets, which numbers have to stand where, what was read, which ranges were, what is written.
local LAST, COMMIT, SUM, BYTES, EXPIRIES, NEWS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local place = 4
local function word()
  place = place + 1
  return ARGV[place]
end
local function number()
  return tonumber(word())
end
local function rows_of(bucket)
  return KEYS[5 + 2 * bucket]
end
local function keys_of(bucket)
  return KEYS[6 + 2 * bucket]
end

-- It is here for the second time, since nobody heard what came of it.
local came = redis.call('GET', COMMIT)
if came then return {came} end
local function came_to(...)
  redis.call('SET', COMMIT, (...), 'PX', ARGV[1])
  return {...}
end

local buckets = {}
for bucket = 1, number() do buckets[bucket] = word() end

for _ = 1, number() do
  local bucket, key, expected = number(), word(), word()
  local row = redis.call('HGET', rows_of(bucket), key)
  local stands = '0'
  if row then
    local _, _, from = parts(row)
    stands = string.sub(row, from)
  end
  if stands ~= expected then return came_to('outdated') end
end

for _ = 1, number() do
  local bucket, key, commit = number(), word(), word()
  local row = redis.call('HGET', rows_of(bucket), key)
  if (row and parts(row) or '0') ~= commit then return came_to('conflict') end
end

for _ = 1, number() do
  local bucket, from, to, count, hash = number(), word(), word(), number(), word()
  local keys = redis.call('ZRANGEBYLEX', keys_of(bucket), from, to, 'LIMIT', 0, count + 1)
  if #keys ~= count then return came_to('conflict') end
  local stood = {}
  for first = 1, count, 500 do
    local last = math.min(first + 499, count)
    local rows = redis.call('HMGET', rows_of(bucket), unpack(keys, first, last))
    for index, row in ipairs(rows) do
      local key = keys[first + index - 1]
      stood[first + index - 1] = key .. '\0' .. parts(row)
    end
  end
  if redis.sha1hex(table.concat(stood, '\0')) ~= hash then return came_to('conflict') end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Lua's numbers are exact up to 2^53 only.
local MOST = 2 ^ 53 - 1
local function sum(former, delta)
  local sign, digits = string.match(former, '^([+-]?)0*(%d+)$')
  if not digits then return nil, 'number' end
  if sign == '+' or digits == '0' then sign = '' end
  redis.call('SET', SUM, sign .. digits)
  local added = redis.pcall('INCRBY', SUM, delta)
  local result = redis.call('GET', SUM)
  redis.call('DEL', SUM)
  if type(added) == 'table' and added.err then
    return nil, string.find(added.err, 'not an integer') and 'number' or 'range'
  end
  return result
end

local changes, stale, used = {}, {}, {}
for bucket, name in ipairs(buckets) do
  used[bucket] = {keys = 0, bytes = 0}
end
for _ = 1, number() do
  local bucket, key, kind, text, expires = number(), word(), word(), word(), number()
  local row = redis.call('HGET', rows_of(bucket), key)
  local former, former_expires
  if row then
    local _, until_when, from = parts(row)
    former, former_expires = string.sub(row, from), until_when
  end
  local is_changed = true
  if kind == 'add' then
    local is_live = former and not is_over(former_expires, now)
    local result, reason = sum(is_live and former or '0', text)
    if not result then return came_to('number', buckets[bucket], key, reason) end
    text, expires = result, is_live and former_expires or 0
  elseif kind == 'delete' then
    text = nil
  elseif kind == 'expire' then
    text = nil
    is_changed = former and is_over(former_expires, now)
    if not is_changed then stale[#stale + 1] = {buckets[bucket] .. '\0' .. key, former_expires or 0} end
  end
  if is_changed and (former or text) then
    local use = used[bucket]
    if former then
      use.keys, use.bytes = use.keys - 1, use.bytes - #key - #former
    end
    if text then
      use.keys, use.bytes = use.keys + 1, use.bytes + #key + #text
    end
    changes[#changes + 1] = {
      bucket = bucket, key = key, text = text, expires = expires,
      was = former ~= nil, expired = former_expires or 0,
    }
  end
end

local function bytes_of(name)
  local bytes = redis.pcall('HGET', BYTES, name)
  return type(bytes) == 'string' and tonumber(bytes) or 0
end
for bucket, use in ipairs(used) do
  if use.keys > 0 then
    local keys = redis.call('ZCARD', keys_of(bucket)) + use.keys
    if keys > tonumber(ARGV[2]) then return came_to('bucket_keys', buckets[bucket]) end
  end
  if use.bytes > 0 then
    local bytes = bytes_of(buckets[bucket]) + use.bytes
    if bytes > tonumber(ARGV[3]) then return came_to('bucket_bytes', buckets[bucket]) end
  end
end

-- What it costs to keep those that plugins share, as a store on disk counts it.
local SHARED, KEY_COST = '', 100
local cost = 0
for bucket, use in ipairs(used) do
  local name = buckets[bucket]
  if string.sub(name, 1, 7) == 'shared/' then
    cost = cost + use.bytes + use.keys * (KEY_COST + #name)
  end
end
if cost > 0 and bytes_of(SHARED) + cost > tonumber(ARGV[4]) then
  return came_to('shared_bytes')
end

-- By the clock: of numbers of a time before Redis lost what it had, or before another Redis took over that had not got all,
-- none comes again.
local former = redis.pcall('GET', LAST)
former = type(former) == 'string' and tonumber(former) or 0
if former ~= former or former >= MOST then former = 0 end
local last = string.format('%.0f', math.max(former + 1, time[1] * 1000000 + time[2]))
-- The first of what is written: Redis without memory refuses this one, and then nothing has happened.
redis.call('SET', LAST, last)
-- From here on nothing may fail, or half of the writes would have happened. What is under one of the other keys and is
-- nothing of the store's goes.
local function put(command, key, ...)
  local done = redis.pcall(command, key, ...)
  if type(done) ~= 'table' or not done.err then return end
  if string.find(done.err, 'WRONGTYPE', 1, true) then redis.call('DEL', key) end
  redis.call(command, key, ...)
end
for _, change in ipairs(changes) do
  local rows, keys, key = rows_of(change.bucket), keys_of(change.bucket), change.key
  local full = buckets[change.bucket] .. '\0' .. key
  if string.sub(full, 1, 5) == 'host/' and change.expires == 0 then
    put('XADD', NEWS, 'MAXLEN', '~', 100000, '*', 'key', full)
  end
  if change.expired > 0 then put('ZREM', EXPIRIES, full) end
  if change.text then
    local expires = string.format('%.0f', change.expires)
    redis.call('HSET', rows, key, last .. ' ' .. expires .. ' ' .. change.text)
    if not change.was then put('ZADD', keys, 0, key) end
    if change.expires > 0 then put('ZADD', EXPIRIES, expires, full) end
  else
    redis.call('HDEL', rows, key)
    put('ZREM', keys, key)
  end
end
-- Keys whose time is not over, or that are gone: what was noted of their time was not so.
for _, noted in ipairs(stale) do
  local full, expires = unpack(noted)
  if expires > 0 then
    put('ZADD', EXPIRIES, string.format('%.0f', expires), full)
  else
    put('ZREM', EXPIRIES, full)
  end
end
local function count(name, more)
  local bytes = math.max(bytes_of(name) + more, 0)
  if bytes == 0 then
    put('HDEL', BYTES, name)
  else
    put('HSET', BYTES, name, string.format('%.0f', bytes))
  end
end
for bucket, use in ipairs(used) do
  if use.bytes ~= 0 then count(buckets[bucket], use.bytes) end
end
if cost ~= 0 then count(SHARED, cost) end
return came_to('done')
