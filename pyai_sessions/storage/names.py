"""The parts of keys: encoded ids, namespaces and places."""

from __future__ import annotations

import string
from functools import lru_cache
from urllib.parse import quote, unquote

NAMESPACES = "namespace/"

ID_CHARACTERS = string.ascii_letters + string.digits + "-._~%"
"""The characters of an encoded id."""


@lru_cache(maxsize=4096)
def encode_id(value: str) -> str:
    """Return an id percent-encoded, as keys contain it: no id can then forge another key, or a path."""
    text = quote(value, safe="", errors="surrogatepass")
    return "%2E" + text[1:] if text[0] == "." else text


def decode_id(text: str) -> str | None:
    """Return the id that is encoded as *text*; None if no id is: the key is not ours."""
    try:
        value = unquote(text, errors="surrogatepass")
    except UnicodeDecodeError:
        return None
    return value if value and encode_id(value) == text else None


def split_namespace(key: str) -> tuple[str, str]:
    """Return the namespace of a key, with the slash after it, and the rest of the key. "" means no namespace."""
    if not key.startswith(NAMESPACES):
        return "", key
    name, slash, rest = key.removeprefix(NAMESPACES).partition("/")
    return (f"{NAMESPACES}{name}/", rest) if slash and decode_id(name) else ("", key)


def place_of(key: str) -> str:
    """Return the place of a key: its second part, after its namespace. Keys without a slash share one place.

    >>> place_of("messages/s/g/0"), place_of("namespace/a/session/s")
    ('s', 'namespace/a/s')
    """
    start, rest = split_namespace(key)
    return start + rest.partition("/")[2].partition("/")[0]
