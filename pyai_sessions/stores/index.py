"""The index of a custom store: whose sessions there are and when each was active, in a mapping of the user's.

It holds a head for each session, without messages, metadata or state, and so has the lists of our own storages. What it
lists says where to look; what is found there is read from the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyai_sessions.documents.keys import head_key, session_of_key
from pyai_sessions.documents.listed import list_of, listed, listings_of
from pyai_sessions.documents.reading import read_head
from pyai_sessions.documents.writing import write_head
from pyai_sessions.model.heads import (
    FORMAT,
    Entry,
    Head,
    SessionStatus,
    StoredHead,
    from_microseconds,
    stamp_of_head,
)
from pyai_sessions.sessions.indexes import batches
from pyai_sessions.storage.families import is_of, storage_of
from pyai_sessions.storage.protocol import Change, Position, Storage
from pyai_sessions.values.tokens import new_token


class Index:
    """Lists of the sessions of all users, in a mapping."""

    def __init__(self, mapping: Any) -> None:
        if is_of(mapping, "pyai_sessions", "Encrypted"):
            from pyai_sessions.encryption.storage import EncryptedStorage

            self._storage: Storage = EncryptedStorage(storage_of(mapping.mapping, listed), mapping.sealer)
        else:
            self._storage = storage_of(mapping, listed)
        self.close = self._storage.close

    def put(self, session_id: str, entry: Entry | None) -> None:
        """List a session so; None: no more."""
        key, done = head_key(session_id), False
        while not done:
            old = next(self._heads([key]), None)
            lists = listings_of(old.entry if old else None, entry)
            expect = [(key, old.stamp if old else None)]
            if entry is not None:
                updated_at = from_microseconds(entry.activity)
                head = Head(FORMAT, new_token(12), session_id, entry.user_id, entry.status, updated_at, updated_at)
                change = Change(expect, stamp_of_head(head), [(key, write_head(head, {}))], lists=lists)
            else:
                change = Change(expect, drop=[key], lists=lists)
            done = self._storage.write([change])[0]

    def entries(self, session_ids: Iterable[str] | None = None) -> Iterator[Entry]:
        """Iterate over how sessions are listed; None: all of them."""
        keys = self._storage.keys("session/") if session_ids is None else map(head_key, session_ids)
        return (each.entry for batch in batches(keys) for each in self._heads(batch))

    def _heads(self, keys: list[str]) -> Iterator[StoredHead]:
        for key, value in self._storage.read(keys).items():
            yield read_head(value, session_of_key(key) or "")

    def scan(self, status: SessionStatus, after: Position | None, limit: int, *, newest_first: bool) -> list[Position]:
        """Return the next positions of the sessions of a status."""
        return self._storage.scan(list_of(status, None), after, limit, newest_first=newest_first)

    def count(self) -> int:
        """Return how many sessions are listed."""
        return sum(self._storage.count(list_of(each, None)) for each in SessionStatus)
