"""Opening the store that a command works on: by its url, without making one where a command only reads."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlsplit

import click

if TYPE_CHECKING:
    from pyai_sessions import KVSessionStore, SessionManager

Access = Literal["read", "write", "create"]
"""For reading alone; for writing, where it must be there; or for writing, where it is made if it is not there."""

DEFAULT = "sessions.db"
"""The file that `SQLiteSessionStore` opens if it is given no path."""


@contextmanager
def open_manager(
    url: str | None, keys: str | None = None, *, access: Access, migrate: bool = False
) -> Generator[SessionManager, None, None]:
    """Give a manager of the store at a url, and close the store afterwards.

    Raises:
        UsageError: No store is named.
        StorageError: It is not there, or cannot be opened.

    """
    from pyai_sessions import SessionManager, open_store

    url = url_of(url)
    keys = keys or os.environ.get("PYAI_SESSIONS_KEYS")
    with ExitStack() as stack:
        if access != "create":
            _check_is_there(url)
        store = stack.enter_context(closing(open_store(_read_only(url) if access == "read" else url)))
        yield SessionManager(store if keys is None else _encrypted(store, url, keys, migrate=migrate))


def url_of(given: str | None) -> str:
    """Return the url of the store that is given, or that the environment names. A path is that of an SQLite file."""
    text = given or os.environ.get("PYAI_SESSIONS_STORE")
    if not text:
        if not Path(DEFAULT).exists():
            msg = (
                "no store is named; give --store sqlite:///chat.db (or redis://localhost:6379/0, or the path of an "
                "SQLite file), or set PYAI_SESSIONS_STORE"
            )
            raise click.UsageError(msg)
        text = DEFAULT
    if "://" in text:
        return text
    return f"sqlite:///{quote(os.fsencode(text), safe='/~')}"


def file_of(url: str) -> Path | None:
    """Return the SQLite file that a url names; None where it names another kind of store."""
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.path == "/:memory:":
        return None
    return Path(os.fsdecode(unquote_to_bytes(parts.path.removeprefix("/")))).expanduser()


def _read_only(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or ":memory:" in parts.path or "mode" in dict(parse_qsl(parts.query)):
        return url
    return f"{url}{'&' if parts.query else '?'}mode=ro"


def _check_is_there(url: str) -> None:
    """Raise unless the file or the directory of a store is there: to open it would make it."""
    from pyai_sessions import StorageUnreachableError, open_store

    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        open_store(_read_only(url)).close()
    elif parts.scheme == "diskcache":
        folder = Path(os.fsdecode(unquote_to_bytes(parts.netloc + parts.path))).expanduser()
        if not (folder / "cache.db").exists():
            raise StorageUnreachableError(str(folder), "there is no store of diskcache", "check the path")


def _encrypted(store: KVSessionStore, url: str, keys: str, *, migrate: bool) -> KVSessionStore:
    """Return a store of what lies encrypted in the mapping of another, with the options of the url."""
    from pyai_sessions import Encrypted, KVSessionStore

    options = dict(parse_qsl(urlsplit(url).query))
    given: dict[str, Any] = {"namespace": options.get("namespace")}
    if "ttl" in options:
        given["ttl"] = int(options["ttl"])
    if "sliding" in options:
        given["sliding"] = options["sliding"] == "true"
    return KVSessionStore(Encrypted(store.mapping, read_keys(keys), migrate=migrate), **given)


def read_keys(path: str) -> dict[str, bytes]:
    """Return the keys in a file: a JSON object of ids and keys in base64. An error shows none of them."""
    form = '{"index": "<32 bytes in base64>", "2026-01": "<32 bytes in base64>"}'
    try:
        found = json.loads(Path(path).expanduser().read_text("utf-8"))
        return {str(name): base64.b64decode(text, validate=True) for name, text in found.items()}
    except OSError as err:
        msg = f"the file of keys {path} cannot be read: {err.strerror}"
        raise click.UsageError(msg) from None
    except (ValueError, TypeError, AttributeError):
        msg = f"the file of keys {path} is not a JSON object of ids and keys in base64: {form}"
        raise click.UsageError(msg) from None
