"""Which documents of a storage belong to one user: those that indexes list, and those that only a scan finds.

A damaged document belongs to the user whom the legible rest of its text names. If it names none, it belongs to the user
whose index lists it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pyai_sessions.documents import listed as lists
from pyai_sessions.documents.envelopes import stored_text
from pyai_sessions.documents.keys import decode_id, head_key, session_beside, session_of_key
from pyai_sessions.documents.listed import USERS, Place, list_of, lists_of
from pyai_sessions.documents.reading import read_head, readable_head
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import Entry, SessionStatus
from pyai_sessions.sessions import indexes
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.indexes import batches
from pyai_sessions.storage.protocol import Listed

_STATUSES = (SessionStatus.ARCHIVED, SessionStatus.ACTIVE, SessionStatus.ARCHIVED)
"""Archived sessions are read twice: a session may be archived between the two reads."""

Places = Mapping[str, set[Place]]
"""The index entries of sessions, by session id."""


class Owner:
    """Tells whether a stored head, damaged or not, belongs to one user."""

    def __init__(self, backend: Backend, user_id: str) -> None:
        self.user_id = user_id
        lists = [list_of(each, user_id) for each in SessionStatus]
        self._lists = {*lists, *(name for each in lists for name in backend.names.names(each))}

    def has(self, value: object, session_id: str) -> bool | None:
        """Return whether the stored head *value* belongs to the user; None if it is damaged and names no user."""
        try:
            return read_head(value, session_id).head.user_id == self.user_id
        except InvalidDocumentError:
            lists = [name for name, _, _ in listings_of(value, session_id) if name.startswith(USERS)]
            return lists[0] in self._lists if lists else None


def listings_of(value: object | None, session_id: str) -> list[Listed]:
    """Return the index entries that a stored head, damaged or not, asks for; none if there is no head."""
    return [] if value is None else list(lists.listed(head_key(session_id), lambda: stored_text(value) or b""))


def listed(backend: Backend, user_id: str) -> dict[str, set[Place]]:
    """Return the sessions that the indexes list for a user, each with its entries.

    The index is read from the session that is idle longest: a session that becomes active meanwhile moves to a part
    that is still to be read.
    """
    found: dict[str, set[Place]] = {}
    for status in _STATUSES:
        for _, member in indexes.positions(backend.storage, list_of(status, user_id)):
            session_id = decode_id(member)
            if session_id is not None:
                places = lists_of(Entry(session_id, user_id, status, 0, 0))
                found.setdefault(session_id, set()).update(each[:2] for each in places)
    return found


class Everything(NamedTuple):
    """The documents of a storage that may concern one user.

    Attributes:
        heads: The user's sessions, each with the index entries that it should have.
        unknown: The keys of damaged heads that name no user.
        parents: Of other users' forks: the session that each was forked from.
        aside: The keys of documents that were set aside.
        is_owners: `Owner.has`, for each session of which something was set aside.
        references: The keys of references to pages.
        pages: The keys of pages without a head.
        gone: Sessions without a head that the storage lists, as the index of a custom store may.

    """

    heads: dict[str, list[Listed]]
    unknown: list[str]
    parents: dict[str, str]
    aside: list[str]
    is_owners: dict[str, bool | None]
    references: list[str]
    pages: list[str]
    gone: list[str]


def everything(backend: Backend, owner: Owner) -> Everything:
    """Read all keys and all heads."""
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
        stored = backend.heads(heads)
        for session_id, value in stored.items():
            _add_head(found, owner, session_id, value)
        found.gone.extend(each for each in heads if each not in stored)
        stored = backend.heads(pages)
        found.pages.extend(key for session_id, keys in pages.items() if session_id not in stored for key in keys)
    for ids in batches({session_beside(key) or "": key for key in found.aside}):
        for session_id, value in backend.heads(ids).items():
            found.is_owners[session_id] = owner.has(value, session_id)
    return found


def _add_head(found: Everything, owner: Owner, session_id: str, value: object) -> None:
    has = owner.has(value, session_id)
    if has:
        found.heads[session_id] = listings_of(value, session_id)
    elif has is None:
        found.unknown.append(head_key(session_id))
    else:
        stored = readable_head(value, session_id)
        parent = stored and stored.parent_id
        if parent:
            found.parents[session_id] = parent
