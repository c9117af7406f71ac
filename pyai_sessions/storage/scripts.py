"""The Lua scripts of Redis storages: each does its work in one atomic step on the server.

KEYS and ARGV are told above each. Documents are fields of hashes, lists are sorted sets.
"""

from __future__ import annotations

_BEGINS = """
local function begins(text, start) return text and string.sub(text, 1, #start) == start end
"""

# KEYS: hash. ARGV: a change, packed in one text, since clients take long over many arguments: how a document that says
# that it was applied begins, or false; key and start (or false) of each that is expected; field and document of each
# that is put; fields to drop, and fields that end with "/", which mean all below; key, member and score ("": none) of
# each listing; milliseconds to live (0: as before, -1: for ever). Returns 1 if the change is applied, 2 if it was
# before, or else 0.
WRITE = (
    _BEGINS
    + """
local hash = KEYS[1]
local done, expect, put, drop, lists, lives = unpack(cmsgpack.unpack(ARGV[1]))
for n = 1, #expect, 2 do
  local stored = redis.call('HGET', hash, expect[n])
  if n == 1 and done and begins(stored, done) then return 2 end
  local start = expect[n + 1]
  if start and not begins(stored, start) or stored and not start then return 0 end
end
-- What lies under another type of key raises here, before anything is changed: the server takes back nothing.
local left = redis.call('PTTL', hash)
if #expect == 0 then redis.call('HLEN', hash) end
for n = 1, #lists, 3 do redis.call('ZCARD', lists[n]) end
-- What takes memory comes first: a full server refuses that, and takes away whatever it is told to.
for n = 1, #lists, 3 do
  if lists[n + 2] ~= '' then redis.call('ZADD', lists[n], lists[n + 2], lists[n + 1]) end
end
for n = 1, #put, 2 do redis.call('HSET', hash, put[n], put[n + 1]) end
for _, field in ipairs(drop) do
  if string.sub(field, -1) ~= '/' then redis.call('HDEL', hash, field) else
    for _, each in ipairs(redis.call('HKEYS', hash)) do
      if begins(each, field) then redis.call('HDEL', hash, each) end
    end
  end
end
for n = 1, #lists, 3 do
  if lists[n + 2] == '' then redis.call('ZREM', lists[n], lists[n + 1]) end
end
if lives < 0 then redis.call('PERSIST', hash)
elseif lives > 0 and (left == -2 or left >= 0 and left < lives) then redis.call('PEXPIRE', hash, lives) end
return 1
"""
)

# KEYS: hashes. ARGV: of each, packed in one text, the fields that are wanted, and fields that end with "/", which mean
# all below. Returns of each the fields that it has, and what they hold.
READ = (
    _BEGINS
    + """
local found = {}
for n, wanted in ipairs(cmsgpack.unpack(ARGV[1])) do
  local hash, items, names = KEYS[n], {}, nil
  local function add(field)
    local value = redis.call('HGET', hash, field)
    if value then
      items[#items + 1] = field
      items[#items + 1] = value
    end
  end
  for _, field in ipairs(wanted) do
    if string.sub(field, -1) ~= '/' then add(field) else
      names = names or redis.call('HKEYS', hash)
      for _, each in ipairs(names) do if begins(each, field) then add(each) end end
    end
  end
  found[n] = items
end
return found
"""
)

# KEYS: hashes. ARGV: of each, packed in one text, the first part of the names of fields ("": any). Returns the fields
# of each.
NAMES = (
    _BEGINS
    + """
local found = {}
for n, kind in ipairs(cmsgpack.unpack(ARGV[1])) do
  local names = redis.call('HKEYS', KEYS[n])
  if kind ~= '' then
    local all = names
    names = {}
    for _, each in ipairs(all) do
      if each == kind or begins(each, kind .. '/') then names[#names + 1] = each end
    end
  end
  found[n] = names
end
return found
"""
)

# KEYS: list. ARGV: member, score at which it must stand, new score (or empty: none). Returns 1 if it stood there.
MOVE = """
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) ~= tonumber(ARGV[2]) then return 0 end
if ARGV[3] == '' then redis.call('ZREM', KEYS[1], ARGV[1]) else redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1]) end
return 1
"""
