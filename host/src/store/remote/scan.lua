-- Reads keys of a range in order. KEYS: the rows and the keys of the bucket. ARGV: the first key, the last one,
-- how many at most, with how many bytes, the time.
local PAGE = 500
local most, room, now = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local found, stood, count = {}, {}, 0
local from = ARGV[1]
local is_cut = false
repeat
  local page = redis.call('ZRANGEBYLEX', KEYS[2], from, ARGV[2], 'LIMIT', 0, PAGE)
  local rows = #page > 0 and redis.call('HMGET', KEYS[1], unpack(page)) or {}
  for index, key in ipairs(page) do
    local commit, expires, at = parts(rows[index])
    local is_live = commit ~= '0' and not is_over(expires, now)
    if is_live then
      room = room - #key - (#rows[index] - at + 1)
      is_cut = room < 0
      -- One is read however large it is.
      if is_cut and #found > 0 then break end
    end
    count = count + 1
    stood[count] = key .. '\0' .. commit
    if is_live then
      found[#found + 1] = {key, rows[index]}
      if is_cut or #found == most then break end
    end
  end
  if #page > 0 then from = '(' .. page[#page] end
until is_cut or #page < PAGE or #found == most
return {redis.sha1hex(table.concat(stood, '\0')), count, is_cut and 1 or 0, found}
