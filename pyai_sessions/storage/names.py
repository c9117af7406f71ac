"""Names in keys: percent-encoded, so that no id can forge another key; and the namespace and the place of a key."""

from __future__ import annotations

import string
from functools import lru_cache
from urllib.parse import quote, unquote

NAMESPACES = "namespace/"

ID_CHARACTERS = string.ascii_letters + string.digits + "-._~%"
"""The characters of an id as it stands in keys."""


@lru_cache(maxsize=4096)
def encode_id(value: str) -> str:
    """Return an id as it stands in keys: percent-encoded, so that no id can forge another key or a path."""
    text = quote(value, safe="", errors="surrogatepass")
    return "%2E" + text[1:] if text[0] == "." else text


def decode_id(text: str) -> str | None:
    """Return the id that stands as *text* in keys, or None where none does: the key is not ours."""
    try:
        value = unquote(text, errors="surrogatepass")
    except UnicodeDecodeError:
        return None
    return value if value and encode_id(value) == text else None


def split_namespace(key: str) -> tuple[str, str]:
    """Return the prefix of a key's namespace, empty where it has none, and the rest of the key."""
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
