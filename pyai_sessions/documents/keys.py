"""The keys under which documents lie: percent-encoded, so that no id can forge another key.

session/<id>             a head
messages/<id>/<gen>/<n>  a page
forks/<id>/<fork>/<inc>  a reference to pages of <id>
state/user:<user>        the state of a user, that its sessions share
state/app:               the state of the application
unreadable/<id>/…        what was set aside
namespace/<name>/…       all of these, of a namespace
"""

# ruff: noqa: PLC0414 (what storages need of keys stands in storage/names.py, and is passed on here)

from __future__ import annotations

import re
from collections.abc import Iterable

from pyai_sessions.model.heads import Run
from pyai_sessions.storage.names import ID_CHARACTERS as ID_CHARACTERS
from pyai_sessions.storage.names import NAMESPACES as NAMESPACES
from pyai_sessions.storage.names import decode_id as decode_id
from pyai_sessions.storage.names import encode_id as encode_id
from pyai_sessions.storage.names import split_namespace as split_namespace
from pyai_sessions.values.checks import check_id

_HASHED = re.compile("=[A-Za-z0-9_-]{24}")
"""A hashed user: see `pyai_sessions.documents.listed`."""


def head_key(session_id: str) -> str:
    """Return the key of a session's head."""
    return f"session/{encode_id(session_id)}"


def page_prefix(session_id: str) -> str:
    """Return what the keys of all pages of a session begin with."""
    return f"messages/{encode_id(session_id)}/"


def next_page_key(run: Run) -> str:
    """Return the key of the page that would come after those of a run."""
    return f"{page_prefix(run.owner)}{run.generation}/{run.end}"


def page_keys(runs: Iterable[Run], start: int = 0, stop: int | None = None) -> list[str]:
    """Return the keys of the pages of *runs*, oldest first; of those from *start* to *stop*, counted over all runs."""
    keys: list[str] = []
    for run in runs:
        numbers = range(max(0, start), run.pages if stop is None else min(run.pages, stop))
        if numbers:
            prefix = f"{page_prefix(run.owner)}{run.generation}/"
            keys += [f"{prefix}{run.start + n}" for n in numbers]
        start -= run.pages
        stop = None if stop is None else stop - run.pages
    return keys


def branch_key(session_id: str, branch_id: str) -> str:
    """Return the key of the document of a branch: where the first page of a generation of that name would be."""
    return f"{page_prefix(session_id)}{branch_id}/0"


def reference_prefix(owner: str) -> str:
    """Return what the keys of all references to a session's pages begin with."""
    return f"forks/{encode_id(owner)}/"


def reference_key(owner: str, fork: str, incarnation: str) -> str:
    """Return the key of the reference that a *fork* of that *incarnation* leaves with the *owner* of pages it names."""
    return f"{reference_prefix(owner)}{encode_id(fork)}/{incarnation}"


def parts_of_reference(key: str) -> tuple[str, str, str]:
    """Return the owner, the fork and its incarnation that the key of a reference names."""
    _, owner, fork, incarnation = key.split("/")
    return decode_id(owner) or "", decode_id(fork) or "", incarnation


APP_STATE = "state/app:"
"""The key of the application's state. Its place has a colon, as no encoded id has: it is no session's."""


def user_state_key(user: str) -> str:
    """Return the key of the state of a user, who is encoded or hashed: see `pyai_sessions.documents.listed.Names`."""
    return f"state/user:{user}"


def user_of_state(key: str) -> str | None:
    """Return the user whose state lies under *key*, or was set aside there; None where that is hashed, or no user's."""
    return decode_id(written_key(key).removeprefix("state/user:")) if is_state(key) and key != APP_STATE else None


def is_state(key: str) -> bool:
    """Return whether *key* is that of the state of a user or of the application, or of one that was set aside."""
    written = written_key(key)
    user = written.removeprefix("state/user:")
    return written == APP_STATE or (user != written and (_HASHED.fullmatch(user) or decode_id(user)) is not None)


def aside_key(key: str, token: str) -> str:
    """Return the key under which an unreadable document is set aside: ``unreadable/<id>/<token>/…``."""
    kind, _, rest = key.partition("/")
    name, slash, page = rest.partition("/")
    return f"unreadable/{name}/{token}/{kind}{slash}{page}"


def namespace_prefix(namespace: str | None) -> str:
    """Return what all keys of a namespace begin with: ``namespace/<its name>/``; nothing without one."""
    return "" if namespace is None else f"{NAMESPACES}{encode_id(check_id(namespace, 'namespace'))}/"


def written_key(key: str) -> str:
    """Return the key that a document was written under: *key*, or the one before it was set aside."""
    kind, _, rest = key.partition("/")
    parts = rest.split("/", 3)
    if kind != "unreadable" or len(parts) < 3:  # noqa: PLR2004 (the id, the token, the kind, and what followed the id)
        return key
    name, _, kind, *page = parts
    return "/".join([kind, name, *page])


def aside_prefix(session_id: str) -> str:
    """Return what the keys of all documents of a session begin with that were set aside."""
    return f"unreadable/{encode_id(session_id)}/"


def session_beside(key: str) -> str | None:
    """Return the id of the session whose page lies under *key*, or a reference to one, or what was set aside of it.

    None where the key is a head's, or not ours.
    """
    return None if key.startswith("session/") else session_of_key(written_key(key))


def session_of_key(key: object) -> str | None:
    """Return the id of the session whose head, page or reference lies under *key*; None where the key is not ours."""
    if not isinstance(key, str):
        return None
    kind, _, rest = key.partition("/")
    if kind == "session":
        return decode_id(rest)
    if kind == "messages" and re.fullmatch(r"[^/]+/[A-Za-z0-9_-]+/[0-9]{1,18}", rest):
        return decode_id(rest.partition("/")[0])
    if kind == "forks" and re.fullmatch(r"[^/]+/[^/]+/[A-Za-z0-9_-]*", rest):
        owner, fork, _ = rest.split("/")
        return decode_id(owner) if decode_id(fork) else None
    return None


def is_page(key: str, session_id: str) -> bool:
    """Return whether *key* is that of a page of a session."""
    return key.startswith("messages/") and session_of_key(key) == session_id


def is_reference(key: str, owner: str) -> bool:
    """Return whether *key* is that of a reference to pages of a session."""
    return key.startswith("forks/") and session_of_key(key) == owner
