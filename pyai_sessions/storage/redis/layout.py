"""How documents and lists are named on a server: the hash and the field of a key, the sorted sets of a list.

    <prefix><place>                   a hash: the document of the key ``kind/place/rest`` is its field ``kind/rest``
    <prefix>/                         a hash: the documents whose keys have no place
    <prefix>/other/<quoted place>     a hash: the documents of a place that is not an encoded id
    <prefix>/<list>                   a sorted set: the members of a list by their scores
    <prefix>/<list>//<n>              a sorted set: one bucket of a list that is split over a cluster
    <prefix>/namespace/<name>/…       the hashes of a namespace
    <prefix>/namespace/<name>//…      the sorted sets of a namespace

No name can be taken for another one, not even for one under a longer prefix: an encoded id contains neither a slash nor
the last character of a prefix (`check_prefix`).
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from contextlib import suppress
from functools import lru_cache
from typing import cast
from urllib.parse import quote, unquote

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.storage.names import ID_CHARACTERS, decode_id, split_namespace
from pyai_sessions.values.checks import kind_of, shown

BUCKETS = 256
"""Sorted sets of a list that a cluster splits. Reading such a list asks each of them."""

_OTHERS = "/other/"


def check_prefix(prefix: object) -> str:
    """Return a prefix whose keys cannot be taken for those of another prefix, whatever the other one is.

    An id in a key is text of `ID_CHARACTERS`. What is not an id begins with a slash after another character. So the
    prefix of a key ends at the first such slash, or where the id at the end begins.

    Raises:
        InvalidValueError: The prefix is not text, ends like an id, or contains such a slash.

    """
    if not isinstance(prefix, str):
        raise InvalidValueError("prefix", f"is {kind_of(prefix)}; it is text, such as 'pyai:sessions:'")
    if not prefix:
        raise InvalidValueError("prefix", "is empty; it is text, such as 'pyai:sessions:'")
    if prefix[-1] in ID_CHARACTERS:
        problem = f"is {shown(prefix)}, which ends like an id: keys of other prefixes could be taken for its own"
        raise InvalidValueError("prefix", f"{problem}; end it with ':'")
    if re.search(f"(?:^|[^{re.escape(ID_CHARACTERS)}])/", prefix):
        problem = f"is {shown(prefix)}; a '/' in it stands after a letter or a digit, as in 'app/sessions/'"
        raise InvalidValueError("prefix", problem)
    return prefix


class Layout:
    """The names of hashes and sorted sets under one prefix.

    Args:
        prefix: The prefix.
        split: Whether to split lists of many members over the slots of a cluster.

    """

    def __init__(self, prefix: str, *, split: bool) -> None:
        self._prefix = prefix
        self._length = len(bytes_of(prefix))
        self._buckets = BUCKETS if split else 1

    # Documents ---------------------------------------------------------------------------------------------------

    def at(self, key: str) -> tuple[bytes, str]:
        """Return the hash and the field of a key."""
        if not isinstance(key, str):
            raise InvalidValueError("key", f"is {kind_of(key)}; it is text")
        namespace = ""
        kind, slash, rest = key.partition("/")
        if kind == "namespace":
            namespace, key = split_namespace(key)
            kind, slash, rest = key.partition("/")
        place, tail, rest = rest.partition("/")
        return _hash(self._prefix, namespace, place if slash else None), kind + tail + rest

    def key(self, name: bytes, field: bytes) -> str:
        """Return the key of a field of a hash."""
        namespace, place = self._split(name)
        kind, slash, rest = as_text(field).partition("/")
        if place == "/":
            return namespace + kind
        other = _other_place(place)
        return f"{namespace}{kind}/{place if other is None else other}{slash}{rest}"

    def holds(self, name: bytes) -> bool:
        """Return whether a hash of the server has a name of ours; other prefixes may begin with this one."""
        _, place = self._split(name)
        return place == "/" or decode_id(place) is not None or _other_place(place) is not None

    def hashes(self, namespace: str) -> bytes:
        """Return the pattern for SCAN that finds all hashes of a namespace, and others."""
        return _literal(f"{self._prefix}/{namespace}" if namespace else self._prefix) + b"*"

    def _split(self, name: bytes) -> tuple[str, str]:
        """Return the namespace of a hash, and its name without prefix and namespace."""
        rest = as_text(name[self._length :])
        return split_namespace(rest[1:]) if rest.startswith("/namespace/") else ("", rest)

    # Lists -------------------------------------------------------------------------------------------------------

    def set_of(self, name: str, member: str) -> str:
        """Return the sorted set in which a list has a member."""
        key = _set(self._prefix, name)
        return f"{key}//{crc_hqx(bytes_of(member), 0) % self._buckets}" if self._is_split(name) else key

    def sets_of(self, name: str) -> list[bytes]:
        """Return all sorted sets of a list."""
        key = bytes_of(_set(self._prefix, name))
        return [b"%b//%d" % (key, n) for n in range(self._buckets)] if self._is_split(name) else [key]

    def list_in(self, key: bytes) -> str:
        """Return the list of a sorted set; empty if it is none of ours."""
        text = text_of(key[self._length + 1 :]) or ""
        namespace, name = split_namespace(text)
        if namespace:
            if not name.startswith("/"):
                return ""
            name = name[1:]
        whole, slashes, bucket = name.rpartition("//")
        return namespace + (whole if slashes and bucket.isdecimal() and self._is_split(namespace + whole) else name)

    def sets(self, prefix: str) -> bytes:
        """Return the pattern for SCAN that finds the sorted sets of lists with this prefix, and others."""
        return _literal(_set(self._prefix, prefix)) + b"*"

    def _is_split(self, name: str) -> bool:
        """Return whether a list is split: those of a single user are short, and lie in one sorted set."""
        return self._buckets > 1 and "/" not in split_namespace(name)[1]


@lru_cache(maxsize=4096)
def _hash(prefix: str, namespace: str, place: str | None) -> bytes:
    """Return the hash of a place in a namespace; None: that of the keys that have no place."""
    if place is not None and decode_id(place) is None:
        place = _quoted(place)
    name = "/" if place is None else place
    return bytes_of(f"{prefix}/{namespace}{name}" if namespace else f"{prefix}{name}")


@lru_cache(maxsize=4096)
def _set(prefix: str, name: str) -> str:
    """Return the sorted set of a list that is not split. In a namespace it has a second slash, which no hash has."""
    namespace, rest = split_namespace(name)
    return f"{prefix}/{namespace}/{rest}" if namespace else f"{prefix}/{rest}"


def _quoted(place: str) -> str:
    """Return the name of the hash of a place that is not an encoded id."""
    return _OTHERS + quote(place, safe="", errors="surrogatepass")


def _other_place(name: str) -> str | None:
    """Return the place whose hash `_quoted` gives this name; None if there is none."""
    with suppress(UnicodeDecodeError):
        place = unquote(name.removeprefix(_OTHERS), errors="surrogatepass")
        return place if decode_id(place) is None and _quoted(place) == name else None
    return None


def _literal(text: str | bytes) -> bytes:
    """Return a pattern for SCAN that matches *text* alone."""
    return re.sub(rb"[*?\[\]\\^]", rb"\\\g<0>", bytes_of(text))


def bytes_of(value: object) -> bytes:
    """Return text, or a document that was read, as it is stored."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(cast("bytes", value))


def text_of(name: bytes) -> str | None:
    """Return a name as text; None if it is not UTF-8, and so not ours."""
    try:
        return name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def as_text(name: bytes) -> str:
    """Return a name as text. One that is not UTF-8, and so not ours, becomes text that is not ours either."""
    return text_of(name) or name.decode("utf-8", "backslashreplace")
