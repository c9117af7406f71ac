"""The Lua scripts of the Redis backend: each does its work in one atomic step on the server.

KEYS and ARGV are told above each. Names of indexes are built from the prefix, see `pyai_sessions.backends.redis`.
"""

from __future__ import annotations

# What the scripts share: clearing away the index entries of expired sessions, atomically with the check that they are
# gone. Keys: [1] the prefix (its literal value; used to build the keys of the indexes).
_EXPIRE = """
local function unindex(prefix, id, status, user)
  redis.call('ZREM', prefix .. '/' .. status, id)
  if user ~= '' then redis.call('ZREM', prefix .. '/user/' .. user .. '/' .. status, id) end
  redis.call('ZREM', prefix .. '/expiry', id .. '/' .. status .. '/' .. user)
end
local function purge(prefix, most)
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  local due = redis.call('ZRANGEBYSCORE', prefix .. '/expiry', '-inf', now, 'LIMIT', 0, most)
  for _, member in ipairs(due) do
    local id, status, user = string.match(member, '^([^/]*)/([^/]*)/(.*)$')
    local left = redis.call('PTTL', prefix .. id)
    if left > 0 then
      redis.call('ZADD', prefix .. '/expiry', now + left, member)
    elseif redis.call('HEXISTS', prefix .. id, 'session') == 1 then
      redis.call('ZREM', prefix .. '/expiry', member)
    else
      unindex(prefix, id, status, user)
    end
  end
  return #due
end
local function begins(text, start)
  return text and string.sub(text, 1, #start) == start
end
"""

PUT = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
"""

# KEYS: prefix, hash. ARGV: id, expected, stamp, head, ttl, activity, status, user, old status, old user,
# number of pages, (field, page)…, garbage field…
COMMIT = (
    _EXPIRE
    + """
local prefix, hash = KEYS[1], KEYS[2]
local id, expected, stamp, head, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local activity, status, user, old_status, old_user = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local stored = redis.call('HGET', hash, 'session')
if begins(stored, stamp) then return 1 end
if expected == '' then
  if stored then return 0 end
elseif not begins(stored, expected) then
  return 0
end
redis.call('ZADD', prefix .. '/' .. status, activity, id)
if user ~= '' then redis.call('ZADD', prefix .. '/user/' .. user .. '/' .. status, activity, id) end
if old_status ~= '' and (old_status ~= status or old_user ~= user) then
  if old_status ~= status then redis.call('ZREM', prefix .. '/' .. old_status, id) end
  if old_user ~= '' then redis.call('ZREM', prefix .. '/user/' .. old_user .. '/' .. old_status, id) end
  redis.call('ZREM', prefix .. '/expiry', id .. '/' .. old_status .. '/' .. old_user)
end
local last = 11 + 2 * ARGV[11]
for n = 12, last, 2 do redis.call('HSET', hash, ARGV[n], ARGV[n + 1]) end
redis.call('HSET', hash, 'session', head)
for n = last + 1, #ARGV do redis.call('HDEL', hash, ARGV[n]) end
if ttl > 0 then
  redis.call('EXPIRE', hash, ttl)
  local now = redis.call('TIME')
  local member = id .. '/' .. status .. '/' .. user
  redis.call('ZADD', prefix .. '/expiry', (now[1] + ttl) * 1000 + math.floor(now[2] / 1000), member)
end
purge(prefix, 10)
return 1
"""
)

# KEYS: prefix, hash. ARGV: id, expected, status, user
REMOVE = (
    _EXPIRE
    + """
local stored = redis.call('HGET', KEYS[2], 'session')
if not begins(stored, ARGV[2]) then return 0 end
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  if field == 'session' or string.sub(field, 1, 9) == 'messages/' then redis.call('HDEL', KEYS[2], field) end
end
if ARGV[3] ~= '' then unindex(KEYS[1], ARGV[1], ARGV[3], ARGV[4]) end
return 1
"""
)

# KEYS: prefix, index. ARGV: newest first (1 or 0), from, limit, offset
SCAN = (
    _EXPIRE
    + """
purge(KEYS[1], 100)
if ARGV[1] == '1' then
  return redis.call('ZREVRANGEBYSCORE', KEYS[2], ARGV[2], '-inf', 'WITHSCORES', 'LIMIT', ARGV[4], ARGV[3])
end
return redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', ARGV[4], ARGV[3])
"""
)

PURGE_ALL = _EXPIRE + "return purge(KEYS[1], tonumber(ARGV[1]))"

# KEYS: prefix, hash. ARGV: id, expected, number of stale entries, (status, user, activity)…, status, user, activity
INDEX = (
    _EXPIRE
    + """
local id, expected = ARGV[1], ARGV[2]
local stored = redis.call('HGET', KEYS[2], 'session')
if expected == '' then
  if stored then return 0 end
elseif not begins(stored, expected) then
  return 0
end
local last = 3 + 3 * ARGV[3]
for n = 4, last, 3 do
  local keys = {KEYS[1] .. '/' .. ARGV[n]}
  if ARGV[n + 1] ~= '' then keys[2] = KEYS[1] .. '/user/' .. ARGV[n + 1] .. '/' .. ARGV[n] end
  for _, key in ipairs(keys) do
    if redis.call('ZSCORE', key, id) == ARGV[n + 2] then redis.call('ZREM', key, id) end
  end
end
if ARGV[last + 1] then
  redis.call('ZADD', KEYS[1] .. '/' .. ARGV[last + 1], ARGV[last + 3], id)
  if ARGV[last + 2] ~= '' then
    redis.call('ZADD', KEYS[1] .. '/user/' .. ARGV[last + 2] .. '/' .. ARGV[last + 1], ARGV[last + 3], id)
  end
end
return 1
"""
)

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

# KEYS: hash. ARGV: expected, field…
REMOVE_PAGES = """
local stored = redis.call('HGET', KEYS[1], 'session')
if ARGV[1] == '' then
  if stored then return 0 end
elseif not stored or string.sub(stored, 1, #ARGV[1]) ~= ARGV[1] then
  return 0
end
for n = 2, #ARGV do redis.call('HDEL', KEYS[1], ARGV[n]) end
return 1
"""
