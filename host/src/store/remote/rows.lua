-- A row is the number of the commit that wrote it, when it is gone in milliseconds or 0, and its bytes. What is none is like
-- no row.
local function parts(row)
  local commit, expires, from = string.match(row or '', '^(%d+) (%d+) ()')
  if not commit then return '0', 0, 1 end
  return commit, tonumber(expires), from
end

local function is_over(expires, now)
  return expires > 0 and expires <= now
end
