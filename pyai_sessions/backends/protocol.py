"""What the store asks of a backend: text under keys, an atomic commit, and two ordered indexes.

A backend knows nothing of messages: it moves the text of documents and the index entries that come with them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from pyai_sessions.documents import Draft, Entry
from pyai_sessions.models import SessionStatus

Position = tuple[int, str]
"""Where an entry stands in an index: its activity, then its id as it stands in keys. Positions are unique."""


class Backend(ABC):
    """One kind of storage. All methods may be called from any thread.

    Text comes back as the storage holds it (str or bytes): only `documents` judges it. Every method raises a
    `StorageError` when the storage fails.
    """

    settle = 0.0
    """Seconds after which pages that no head names are of no save that is still at work."""

    @abstractmethod
    def read(self, session_id: str) -> object | None:
        """Return the head of a session, or None."""

    @abstractmethod
    def read_many(self, session_ids: Sequence[str]) -> list[object | None]:
        """Return the heads of sessions, in that order, in as few trips as the storage allows."""

    @abstractmethod
    def read_pages(self, session_id: str, keys: Sequence[str]) -> list[object | None]:
        """Return pages of one session by their keys, in that order."""

    @abstractmethod
    def commit(self, draft: Draft, expected: str | None, previous: Entry | None) -> bool:
        """Store a draft if the stored head begins with *expected* (None: if there is no head); else return False.

        All or nothing: pages first, the head last, the index entry of *previous* replaced by the draft's. A draft that
        is stored already counts as stored, so a commit may be repeated.
        """

    @abstractmethod
    def remove(self, session_id: str, expected: str | None, keys: Sequence[str], previous: Entry | None) -> bool:
        """Delete a session's head if it begins with *expected*, then its pages and index entry; else return False.

        *expected* None deletes whatever is there.
        """

    @abstractmethod
    def remove_pages(self, session_id: str, keys: Sequence[str], expected: str | None) -> bool:
        """Delete pages if the stored head still begins with *expected* (None: is gone); else return False."""

    @abstractmethod
    def set_aside(self, session_id: str, keys: Sequence[str], token: str) -> None:
        """Move documents of a session, as they are, to the keys that `documents.aside_key` gives."""

    @abstractmethod
    def all_keys(self) -> Iterator[object]:
        """Iterate over all keys of the mapping, ours and foreign ones."""

    def exclusive(self, session_id: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Keep other writers of a session out meanwhile, where the storage can; a commit still compares."""
        return nullcontext()

    @abstractmethod
    def scan(
        self, status: SessionStatus, user_id: str | None, after: Position | None, limit: int, *, newest_first: bool
    ) -> list[Position]:
        """Return up to *limit* positions of an index that come after *after*; *user_id* None means all users."""

    @abstractmethod
    def count(self, status: SessionStatus, user_id: str | None) -> int:
        """Return how many entries an index has."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Iterate over what the indexes hold, in no order; a session may come twice where they disagree."""

    @abstractmethod
    def index(self, session_id: str, expected: str | None, stale: Iterable[Entry], entry: Entry | None) -> bool:
        """Remove *stale* index entries and add *entry*, if the stored head begins with *expected* (None: is gone)."""

    def purge_expired(self) -> int:
        """Remove what is left of sessions whose time has run out; return how many they were."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Free what the backend opened itself. Calls after this raise StorageClosedError."""
