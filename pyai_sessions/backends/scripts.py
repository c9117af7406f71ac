"""The Lua scripts of the Redis backend: each does its work in one atomic step on the server.

KEYS and ARGV are told above each. Names of indexes are built from the prefix, see `pyai_sessions.backends.redis`.
"""

from __future__ import annotations

# What the scripts share: comparing, and clearing away the index entries of expired sessions, atomically with the check
# that they are gone.
_SHARED = """
local function unindex(prefix, id, status, user)
  redis.call('ZREM', prefix .. '/' .. status, id)
  if user ~= '' then redis.call('ZREM', prefix .. '/user/' .. user .. '/' .. status, id) end
  redis.call('ZREM', prefix .. '/expiry', id .. '/' .. status .. '/' .. user)
end
local function decode(name)
  return (string.gsub(name, '%%(%x%x)', function(hex) return string.char(tonumber(hex, 16)) end))
end
local function place(head) -- a head's status and user; no user where that cannot be told without parsing it
  local status = string.match(head, '"status":"(%a+)"')
  local user = string.match(head, '"user_id":"([^"\\\\]*)"')
  if not user and string.find(head, '"user_id":null', 1, true) then user = '' end
  return status, status and user
end
local function purge(prefix, due) -- of entries that are due those whose sessions are gone
  for _, member in ipairs(due) do
    local id, status, user = string.match(member, '^([^/]+)/(%a+)/([^/]*)$')
    local head = id and redis.call('HGET', prefix .. id, 'session')
    local status_now, user_now = place(head or '')
    if not id then -- none of ours
      redis.call('ZREM', prefix .. '/expiry', member)
    elseif not head then
      unindex(prefix, id, status, user)
    elseif user_now and (status_now ~= status or user_now ~= decode(user)) then -- created anew, by another user
      if status_now ~= status then redis.call('ZREM', prefix .. '/' .. status, id) end
      if user ~= '' then redis.call('ZREM', prefix .. '/user/' .. user .. '/' .. status, id) end
      redis.call('ZREM', prefix .. '/expiry', member)
    end
  end
end
local function purge_some(prefix, now) -- not always the first: parents of forks stay due, and would hide all others
  local count = redis.call('ZCOUNT', prefix .. '/expiry', '-inf', now)
  if count > 0 then
    local start = count > 10 and now % count or 0
    purge(prefix, redis.call('ZRANGE', prefix .. '/expiry', start, math.min(start + 9, count - 1)))
  end
end
local function milliseconds()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function is_anothers(turn, token) -- whether another writer has its turn now
  local whose, ends = string.match(turn or '', '^([^/]*)/(%d+)$')
  return whose and whose ~= token and tonumber(ends) > milliseconds()
end
local function begins(text, start)
  return text and string.sub(text, 1, #start) == start
end
local function differs(stored, expected)
  if expected == '' then return stored end
  return not begins(stored, expected)
end
"""

# KEYS: hash. ARGV: field, reference, milliseconds that the hash lives at the least (or empty: for ever)
REFER = """
local left = redis.call('PTTL', KEYS[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] == '' then
  redis.call('PERSIST', KEYS[1])
elseif left == -2 or (left >= 0 and left < tonumber(ARGV[3])) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
"""

# KEYS: hash. ARGV: prefix, expected, head, terms, (field, page)…, garbage field…. The terms, in one text since clients
# take long over many arguments: token of the writer's turn (or none)/number of pages/length of the stamp/milliseconds
# to live (0: as it does)/whether forks share it/expiry in milliseconds (or none)/the time now/activity/id/status/user/
# old status/old user.
# An empty prefix leaves the indexes to the caller: they lie on other servers.
COMMIT = (
    _SHARED
    + """
local hash, prefix, head = KEYS[1], ARGV[1], ARGV[3]
local function is_referred() -- by forks, perhaps of a former session of this id
  for _, field in ipairs(redis.call('HKEYS', hash)) do
    if begins(field, 'forks/') then return true end
  end
end
local token, pages, size, lives, shared, expires, now, activity, id, status, user, old_status, old_user = string.match(
  ARGV[4], '^([^/]*)/(%d+)/(%d+)/(%d+)/(%d)/(-?%d*)/(-?%d+)/(-?%d+)/([^/]*)/([^/]*)/([^/]*)/([^/]*)/(.*)$')
lives = tonumber(lives)
local found = redis.call('HMGET', hash, 'session', 'turn')
local stored, turn = found[1], found[2]
if begins(stored, string.sub(head, 1, size)) then return 1 end
if differs(stored, ARGV[2]) or (turn and is_anothers(turn, token)) then return 0 end
if turn then redis.call('HDEL', hash, 'turn') end
if prefix ~= '' then
  redis.call('ZADD', prefix .. '/' .. status, activity, id)
  if user ~= '' then redis.call('ZADD', prefix .. '/user/' .. user .. '/' .. status, activity, id) end
  if old_status ~= '' and (old_status ~= status or old_user ~= user) then
    if old_status ~= status then redis.call('ZREM', prefix .. '/' .. old_status, id) end
    if old_user ~= '' then redis.call('ZREM', prefix .. '/user/' .. old_user .. '/' .. old_status, id) end
    redis.call('ZREM', prefix .. '/expiry', id .. '/' .. old_status .. '/' .. old_user)
  end
end
local last, left = 4 + 2 * pages, redis.call('PTTL', hash)
for n = 5, last, 2 do redis.call('HSET', hash, ARGV[n], ARGV[n + 1]) end
redis.call('HSET', hash, 'session', head)
for n = last + 1, #ARGV do redis.call('HDEL', hash, ARGV[n]) end
-- Never sooner: forks may need it longer than the session itself.
if expires == '' then
  if left >= 0 then redis.call('PERSIST', hash) end
elseif lives > 0 and (left == -2 or (left >= 0 and left < lives)
    or (left == -1 and shared == '0' and not is_referred())) then
  redis.call('PEXPIRE', hash, lives)
end
if prefix ~= '' and expires ~= '' then
  redis.call('ZADD', prefix .. '/expiry', expires, id .. '/' .. status .. '/' .. user)
  purge_some(prefix, now)
end
return 1
"""
)

# KEYS: hash. ARGV: prefix (empty, as above), id, expected, status, user, generation of pages that go with it…
REMOVE = (
    _SHARED
    + """
local stored = redis.call('HGET', KEYS[1], 'session')
if not begins(stored, ARGV[3]) then return 0 end
local gone = {}
for n = 6, #ARGV do gone['messages/' .. ARGV[n]] = true end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field == 'session' or field == 'turn' or gone[string.match(field, '^messages/[^/]*')] then
    redis.call('HDEL', KEYS[1], field)
  end
end
if ARGV[1] ~= '' and ARGV[4] ~= '' then unindex(ARGV[1], ARGV[2], ARGV[4], ARGV[5]) end
return 1
"""
)

# KEYS: hash. ARGV: token, milliseconds. Until then, or until the next commit with this token, no other commit succeeds.
TAKE_TURN = (
    _SHARED
    + """
local found = redis.call('HMGET', KEYS[1], 'session', 'turn')
if not found[1] then return 1 end -- it is gone: nobody waits
if is_anothers(found[2], ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'turn', ARGV[1] .. '/' .. milliseconds() + ARGV[2])
return 1
"""
)

# KEYS: hash. ARGV: token
END_TURN = (
    _SHARED
    + """
if begins(redis.call('HGET', KEYS[1], 'turn'), ARGV[1] .. '/') then redis.call('HDEL', KEYS[1], 'turn') end
"""
)

# KEYS: hash. ARGV: field, what it holds, what it is to hold
REWRITE = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored == ARGV[3] then return 1 end -- sent again, since the reply was lost
if stored ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""

# KEYS: index. ARGV: prefix, status, user, now, how many entries that are due one script looks at. Returns how many
# entries of the index are not due, or -1 where more are.
COUNT = (
    _SHARED
    + """
purge_some(ARGV[1], ARGV[4])
local due = redis.call('ZRANGEBYSCORE', ARGV[1] .. '/expiry', '-inf', ARGV[4], 'LIMIT', 0, ARGV[5] + 1)
if #due > tonumber(ARGV[5]) then return -1 end
local count = redis.call('ZCARD', KEYS[1])
for _, member in ipairs(due) do
  local status, user = string.match(member, '^[^/]*/([^/]*)/(.*)$')
  if status == ARGV[2] and (ARGV[3] == '' or user == ARGV[3]) then count = count - 1 end
end
return count
"""
)

# ARGV: prefix, entry of the index of expiries… Returns how many of these entries are gone now.
PURGE = (
    _SHARED
    + """
local due, gone = {}, 0
for n = 2, #ARGV do due[n - 1] = ARGV[n] end
purge(ARGV[1], due)
for _, member in ipairs(due) do
  if not redis.call('ZSCORE', ARGV[1] .. '/expiry', member) then gone = gone + 1 end
end
return gone
"""
)

# KEYS: hash. ARGV: prefix, id, expected, number of stale entries, (status, user, activity)…, status, user, activity,
# expiry (or none)
INDEX = (
    _SHARED
    + """
local prefix, id = ARGV[1], ARGV[2]
if differs(redis.call('HGET', KEYS[1], 'session'), ARGV[3]) then return 0 end
local last = 4 + 3 * ARGV[4]
for n = 5, last, 3 do
  local keys = {prefix .. '/' .. ARGV[n]}
  if ARGV[n + 1] ~= '' then keys[2] = prefix .. '/user/' .. ARGV[n + 1] .. '/' .. ARGV[n] end
  for _, key in ipairs(keys) do
    if tonumber(redis.call('ZSCORE', key, id) or 'nan') == tonumber(ARGV[n + 2]) then
      redis.call('ZREM', key, id)
      redis.call('ZREM', prefix .. '/expiry', id .. '/' .. ARGV[n] .. '/' .. ARGV[n + 1])
    end
  end
end
if ARGV[last + 1] then
  redis.call('ZADD', prefix .. '/' .. ARGV[last + 1], ARGV[last + 3], id)
  if ARGV[last + 2] ~= '' then
    redis.call('ZADD', prefix .. '/user/' .. ARGV[last + 2] .. '/' .. ARGV[last + 1], ARGV[last + 3], id)
  end
  if ARGV[last + 4] ~= '' then
    redis.call('ZADD', prefix .. '/expiry', ARGV[last + 4], id .. '/' .. ARGV[last + 1] .. '/' .. ARGV[last + 2])
  end
end
return 1
"""
)

# KEYS: index. ARGV: member, new score (or empty: none), score that may be replaced…
PLACE = """
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
local free = not score
for n = 3, #ARGV do free = free or tonumber(score) == tonumber(ARGV[n]) end
if not free then return 0 end
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
elseif score then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return 1
"""

# One reply for many heads; a missing one is an empty text, since a nil would end the list.
READ_MANY = """
local found = {}
for n, key in ipairs(KEYS) do found[n] = redis.call('HGET', key, 'session') or '' end
return found
"""

# KEYS: hash. ARGV: field, new field, …
SET_ASIDE = """
for n = 1, #ARGV, 2 do
  local value = redis.call('HGET', KEYS[1], ARGV[n])
  if value then
    redis.call('HSET', KEYS[1], ARGV[n + 1], value)
    redis.call('HDEL', KEYS[1], ARGV[n])
  end
end
"""

# KEYS: hash. One reply of names and values, as HGETALL's, of the fields that are references.
REFERENCES = """
local found = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 6) == 'forks/' then
    found[#found + 1] = field
    found[#found + 1] = redis.call('HGET', KEYS[1], field)
  end
end
return found
"""

# KEYS: hash. ARGV: expected, field…
REMOVE_PAGES = (
    _SHARED
    + """
if differs(redis.call('HGET', KEYS[1], 'session'), ARGV[1]) then return 0 end
for n = 2, #ARGV do redis.call('HDEL', KEYS[1], ARGV[n]) end
return 1
"""
)
