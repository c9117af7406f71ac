"""The Lua scripts that a server runs, each in one atomic step, and how their arguments are packed.

The comment above a script says what its KEYS and ARGV are. Documents are fields of hashes; lists are sorted sets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from pyai_sessions.storage.redis.layout import bytes_of
from pyai_sessions.values.json import is_array

Command = Sequence[Any]
"""The name of a command of Redis, and its arguments."""

_encode = msgspec.msgpack.Encoder().encode


SOURCES: dict[str, str] = {}
"""The scripts by their digests."""


class Script:
    """A script, and the digest by which a server runs it once it has been sent there."""

    def __init__(self, source: str) -> None:
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        SOURCES[self.digest] = source

    def on(self, keys: Sequence[bytes], *arguments: bytes | str) -> Command:
        """Return the command that runs the script."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)


def pack(value: object) -> bytes:
    """Return nested lists of texts and numbers as one argument, since clients take long over many."""
    try:
        return _encode(value)
    except UnicodeEncodeError:  # a lone surrogate, in a key that is not ours
        return _encode(_raw(value))


def _raw(value: Any) -> Any:
    """Return a value with its texts in msgpack already, in which a lone surrogate is encoded like any character."""
    if isinstance(value, str):
        text = bytes_of(value)
        return msgspec.Raw(b"\xdb" + len(text).to_bytes(4, "big") + text)
    return [_raw(each) for each in value] if is_array(value) else value


_BEGINS = """
local function begins(text, start) return text and string.sub(text, 1, #start) == start end
"""

# Applies a change to one hash and to lists. KEYS: the hash. ARGV[1]: the change, packed:
#   done      how the first expected document begins if the change was applied before; or false
#   expect    fields that are compared
#   starts    how each of these begins; false: the field must be absent
#   put       fields to write; their documents follow as ARGV[2], ARGV[3], ...
#   drop      fields to remove; one that ends with "/" means all fields below it
#   lists     a sorted set, a member and its new score for each listing; false: the member is removed
#   lives     milliseconds to live; 0: as before; -1: for ever
# Returns 1 if the change is applied, 2 if it was applied before, else 0.
WRITE = Script(
    _BEGINS
    + """
local hash = KEYS[1]
local done, expect, starts, put, drop, lists, lives = unpack(cmsgpack.unpack(ARGV[1]))
-- A key of another type raises here, before anything is changed: the server does not undo what a script did.
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
-- What takes memory comes first: a full server refuses it, but removes what it is told to.
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

# Reads fields of hashes. KEYS: the hashes. ARGV[1]: the fields of each hash, or once for all hashes, packed; one that
# ends with "/" means all fields below it. ARGV[2]: how many fields these are together, by which the reply is checked.
# Returns what each field holds, or false; for a field that ends with "/", the fields below and what they hold.
READ = Script(
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

# Lists the fields of hashes. KEYS: the hashes. ARGV[1]: the kind of the fields that are wanted; "" for all fields.
# Returns the fields of each hash.
NAMES = Script(
    _BEGINS
    + """
local found, kind = {}, ARGV[1]
for n, hash in ipairs(KEYS) do
  local names = redis.call('HKEYS', hash)
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

# Moves a member of a list, if its score is still the one that was seen. KEYS: the sorted set. ARGV: the member, that
# score, and the new one, or "" to remove the member. Returns 1 if the member was moved, else 0.
MOVE = Script("""
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) ~= tonumber(ARGV[2]) then return 0 end
if ARGV[3] == '' then redis.call('ZREM', KEYS[1], ARGV[1]) else redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1]) end
return 1
""")
