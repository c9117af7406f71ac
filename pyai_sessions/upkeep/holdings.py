"""What a storage holds of one user: what the indexes list, and what only reading everything finds.

A damaged document is the user's where what is left of its text says so, or where the indexes list it and its text does
not say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from pyai_sessions.documents import listed as lists
from pyai_sessions.documents.keys import decode_id, head_key, session_beside, session_of_key, written_key
from pyai_sessions.documents.listed import USERS, Place, list_of, lists_of
from pyai_sessions.documents.reading import read_head
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import Entry, SessionStatus
from pyai_sessions.sessions import indexes
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.indexes import batches
from pyai_sessions.storage.protocol import Listed

_STATUSES = (SessionStatus.ARCHIVED, SessionStatus.ACTIVE, SessionStatus.ARCHIVED)
"""Archived ones once more: a session may be archived between two reads."""

Places = Mapping[str, set[Place]]
"""Sessions, each with where it is listed."""


class Owner:
    """Tells whether a stored head, damaged or not, is of one user."""

    def __init__(self, backend: Backend, user_id: str) -> None:
        self.user_id = user_id
        lists = [list_of(each, user_id) for each in SessionStatus]
        self._lists = {*lists, *(name for each in lists for name in backend.names.names(each))}

    def has(self, value: object, session_id: str) -> bool | None:
        """Return whether the head that is stored as *value* is the user's; None where nothing says whose it is."""
        try:
            return read_head(value, session_id).head.user_id == self.user_id
        except InvalidDocumentError:
            lists = [name for name, _, _ in listings_of(value, session_id) if name.startswith(USERS)]
            return lists[0] in self._lists if lists else None


def raw(value: object) -> object:
    """Return what is stored, where a backend that could not open it gave the error in its place."""
    return value.document if isinstance(value, InvalidDocumentError) else value


def listings_of(value: object | None, session_id: str) -> list[Listed]:
    """Return what lists hold because of a stored head, damaged or not; nothing where there is none."""
    return list(lists.listed(head_key(session_id), lambda: raw(value)))


def listed(backend: Backend, user_id: str) -> dict[str, set[Place]]:
    """Return what is listed under a user, by session.

    Idle longest first: what becomes active meanwhile moves to where it is still read.
    """
    found: dict[str, set[Place]] = {}
    for status in _STATUSES:
        for _, member in indexes.positions(backend.storage, list_of(status, user_id)):
            session_id = decode_id(member)
            if session_id is not None:
                places = lists_of(Entry(session_id, user_id, status, 0, 0))
                found.setdefault(session_id, set()).update(each[:2] for each in places)
    return found


def left_aside(
    backend: Backend, owner: Owner, keys: Iterable[str], whose: Mapping[str, bool | None]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return which of what was set aside is the user's, by session, and of which nothing says whose it is.

    What was set aside in one go is of one session: its head says whose. Where none was among it, *whose* says of whom
    the session of that id is now (None: there is none), and else what was set aside of it before.
    """
    groups: dict[str, dict[str, list[str]]] = {}
    for key in keys:
        session_id = session_beside(key)
        if session_id is not None:
            groups.setdefault(session_id, {}).setdefault(key.split("/")[2], []).append(key)
    theirs: dict[str, list[str]] = {}
    unknown: list[str] = []
    for session_id, tokens in groups.items():
        heads = [each for group in tokens.values() for each in group if written_key(each) == head_key(session_id)]
        there = backend.storage.read(heads) if heads else {}
        said = {key.split("/")[2]: owner.has(value, session_id) for key, value in there.items()}
        now = whose.get(session_id)
        if now is None and said and None not in said.values() and len(set(said.values())) == 1:
            now = next(iter(said.values()))
        for token, group in tokens.items():
            found = said.get(token, now)
            if found is None:
                unknown += group
            elif found:
                theirs.setdefault(session_id, []).extend(group)
    return theirs, unknown


class Everything(NamedTuple):
    """What lies in a storage, as far as it may concern one user.

    Attributes:
        heads: The sessions that are the user's, each with what lists should hold of it.
        unknown: The keys of damaged heads of which nothing says whose they are.
        parents: Of other users' forks: the session that each was forked from.
        aside: The keys of what was set aside.
        whose: Of the sessions of which something was set aside, and of all with a damaged head: `Owner.has`.
        references: The keys of references to pages.
        pages: The keys of pages without a head.
        gone: Sessions that the storage names, and does not have: those that an index of a custom store lists.

    """

    heads: dict[str, list[Listed]]
    unknown: list[str]
    parents: dict[str, str]
    aside: list[str]
    whose: dict[str, bool | None]
    references: list[str]
    pages: list[str]
    gone: list[str]


def everything(backend: Backend, owner: Owner) -> Everything:
    """Read all keys, and all heads."""
    found = Everything({}, [], {}, [], {}, [], [], [])
    for batch in batches(backend.storage.keys()):
        heads: list[str] = []
        pages: dict[str, list[str]] = {}
        for key in batch:
            session_id = session_beside(key)
            if session_id is None:
                heads += filter(None, [session_of_key(key)])
            elif key.startswith("messages/"):
                pages.setdefault(session_id, []).append(key)
            else:
                (found.references if key.startswith("forks/") else found.aside).append(key)
        there = backend.heads(heads)
        for session_id, value in there.items():
            _sort_in(found, owner, session_id, value)
        found.gone.extend(each for each in heads if each not in there)
        there = backend.heads(pages)
        found.pages.extend(key for session_id, keys in pages.items() if session_id not in there for key in keys)
    for ids in batches({session_beside(key) or "": key for key in found.aside}):
        for session_id, value in backend.heads(ids).items():
            found.whose[session_id] = owner.has(value, session_id)
    return found


def _sort_in(found: Everything, owner: Owner, session_id: str, value: object) -> None:
    has = owner.has(value, session_id)
    if has:
        found.heads[session_id] = listings_of(value, session_id)
    elif has is None:
        found.unknown.append(head_key(session_id))
    else:
        with suppress(InvalidDocumentError):
            parent = read_head(value, session_id).head.parent
            if parent and isinstance(parent.get("session_id"), str):
                found.parents[session_id] = parent["session_id"]


def is_aside(key: str) -> bool:
    """Return whether the document under a key was set aside."""
    return key.startswith("unreadable/") and session_beside(key) is not None
