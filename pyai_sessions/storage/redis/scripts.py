"""The Lua scripts of Redis storages: each does its work in one atomic step on the server.

KEYS and ARGV are told above each. Documents are fields of hashes, lists are sorted sets.
"""

from __future__ import annotations

_BEGINS = """
local function begins(text, start) return text and string.sub(text, 1, #start) == start end
"""

# KEYS: hash. ARGV: a change, packed in one text, since clients take long over many arguments; then the documents that
# it puts. The change: how a document that says that it was applied begins, or false; fields that are expected, and how
# each begins, or false; fields that are put; fields to drop, and fields that end with "/", which mean all below; key,
# member and score (or false: none) of each listing; milliseconds to live (0: as before, -1: for ever).
# Returns 1 if the change is applied, 2 if it was before, or else 0.
WRITE = (
    _BEGINS
    + """
local hash = KEYS[1]
local done, expect, starts, put, drop, lists, lives = unpack(cmsgpack.unpack(ARGV[1]))
-- What lies under another type of key raises before anything is changed: the server takes nothing back.
if #expect > 0 then
  local stored = redis.call('HMGET', hash, unpack(expect))
  if done and begins(stored[1], done) then return 2 end
  for n, start in ipairs(starts) do
    if start and not begins(stored[n], start) or stored[n] and not start then return 0 end
  end
else
  redis.call('HLEN', hash)
end
for n = 1, #lists, 3 do redis.call('ZCARD', lists[n]) end
local left = lives > 0 and redis.call('PTTL', hash)
-- What takes memory comes first: a full server refuses that, and takes away whatever it is told to.
for n = 1, #lists, 3 do
  if lists[n + 2] then redis.call('ZADD', lists[n], lists[n + 2], lists[n + 1]) end
end
for n, field in ipairs(put) do redis.call('HSET', hash, field, ARGV[n + 1]) end
for _, field in ipairs(drop) do
  if string.sub(field, -1) ~= '/' then redis.call('HDEL', hash, field) else
    for _, each in ipairs(redis.call('HKEYS', hash)) do
      if begins(each, field) then redis.call('HDEL', hash, each) end
    end
  end
end
for n = 1, #lists, 3 do
  if not lists[n + 2] then redis.call('ZREM', lists[n], lists[n + 1]) end
end
if lives < 0 then redis.call('PERSIST', hash)
elseif left and (left == -2 or left >= 0 and left < lives) then redis.call('PEXPIRE', hash, lives) end
return 1
"""
)

# KEYS: hashes. ARGV: of each, or once for all, packed in one text, the fields that are wanted, and fields that end with
# "/", which mean all below; how many all of these are. Returns of each field what it holds, or false; of each that
# ends with "/" the fields below with what they hold.
READ = (
    _BEGINS
    + """
local found, count, wanted = {}, 0, cmsgpack.unpack(ARGV[1])
for n, hash in ipairs(KEYS) do
  local fields = wanted[n] or wanted[1]
  for m = 1, #fields do
    local field = fields[m]
    count = count + 1
    if string.byte(field, -1) ~= 47 then found[count] = redis.call('HGET', hash, field) else
      local below = {}
      for _, each in ipairs(redis.call('HKEYS', hash)) do
        if begins(each, field) then
          below[#below + 1] = each
          below[#below + 1] = redis.call('HGET', hash, each)
        end
      end
      found[count] = below
    end
  end
end
return found
"""
)

# KEYS: hashes. ARGV: as above, but the first part of the names of fields ("": any). Returns the fields of each.
NAMES = (
    _BEGINS
    + """
local found, wanted = {}, cmsgpack.unpack(ARGV[1])
for n, hash in ipairs(KEYS) do
  local kind, names = (wanted[n] or wanted[1])[1], redis.call('HKEYS', hash)
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
