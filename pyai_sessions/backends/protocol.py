"""What the store asks of a backend: text under keys, an atomic commit, and two ordered indexes.

A backend knows nothing of messages: it moves the text of documents and the index entries that come with them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from pyai_sessions.checks import AnyPath
from pyai_sessions.drafts import Draft
from pyai_sessions.errors import UnsupportedOperationError
from pyai_sessions.heads import Entry, Run, SessionStatus
from pyai_sessions.keys import encode_id, head_key, page_keys, page_prefix, session_beside, session_of_key

Position = tuple[int, str]
"""Where an entry stands in an index: its activity, then its id as it stands in keys. Positions are unique."""


class Wanted(NamedTuple):
    """A session, and which of its own pages are wanted with its head: those of these keys, or all of them (None)."""

    session_id: str
    pages: Sequence[str] | None = None


Progress = Callable[[int], object]
"""Is called now and then with the number of sessions that are done."""


Found = tuple[object | None, dict[str, object]]
"""The head of a session, None where there is none, and pages of it by their keys."""


_CLAIMED = 1000
"""Pages that are taken to be there because a document says so: more are looked for."""


class Backend(ABC):
    """One kind of storage. All methods may be called from any thread.

    Text comes back as the storage holds it (str or bytes): only `documents` judges it. In the place of what cannot be
    decrypted comes the InvalidDocumentError that says why. Every method raises a `StorageError` when the storage fails.
    """

    threads = 8
    """How many calls at the same time are worth a thread each."""

    together = 1
    """How many calls of an event loop's tasks share their trips, if any do."""

    distant = False
    """Whether a trip costs more than the pages that it brings: some are wanted with a head that may not be needed."""

    ttl: int | None = None
    """Seconds that a session lives after its last save, where the mapping says so and its store does not."""

    settle = 0.0
    """Seconds after which pages and index entries that no head bears out are of no save that is still at work."""

    settle_forks = 0.0
    """Likewise of references: a fork leaves them before it writes its head."""

    @abstractmethod
    def read(self, session_id: str) -> object | None:
        """Return the head of a session, or None."""

    @abstractmethod
    def read_many(self, session_ids: Sequence[str]) -> list[object | None]:
        """Return the heads of sessions, in that order, in as few trips as the storage allows."""

    def read_session(self, wanted: Wanted) -> Found:
        """Return the head of a session and wanted pages, in one trip; pages may be left out."""
        return self.read(wanted.session_id), {}

    def read_sessions(self, wanted: Sequence[Wanted]) -> list[Found]:
        """Return what `read_session` does of sessions, in that order, in as few trips as the storage allows."""
        return [self.read_session(each) for each in wanted]

    @abstractmethod
    def read_pages(self, keys: Sequence[str]) -> list[object | None]:
        """Return pages, of one session or of many, by their keys, in that order, in as few trips as can be."""

    @abstractmethod
    def commit(self, draft: Draft) -> bool:
        """Store a draft if what is stored is still what it was made for; else return False.

        All or nothing: pages first, the head last, the index entry replaced. A draft that is stored already counts as
        stored, so a commit may be repeated.
        """

    def commit_many(self, drafts: Sequence[Draft]) -> list[bool]:
        """Store drafts of different sessions, each as `commit` does, in as few trips or transactions as can be.

        An error may leave any of them stored.
        """
        with self.exclusive():
            return [self.commit(each) for each in drafts]

    @abstractmethod
    def remove(self, session_id: str, expected: str | None, runs: Sequence[Run], previous: Entry | None) -> bool:
        """Delete a session's head if it begins with *expected*, then *runs* and its index entry; else return False.

        *runs* are pages of its own; what is left of their generations may go with them. *expected* None deletes
        whatever head is there.
        """

    @abstractmethod
    def remove_pages(self, session_id: str, keys: Sequence[str], expected: str | None) -> bool:
        """Delete pages if the stored head still begins with *expected* (None: is gone); else return False."""

    @abstractmethod
    def refer(self, key: str, reference: bytes | None, time_left: int | None = None) -> None:
        """Store a *reference* to a session's pages where they lie, whether or not its head is there; None deletes it.

        The storage then keeps what lies there for at least *time_left* milliseconds; None keeps it for ever.
        """

    @abstractmethod
    def references(self, owner: str) -> dict[str, object]:
        """Return the references to a session's pages by their keys."""

    @abstractmethod
    def set_aside(self, session_id: str, keys: Sequence[str], token: str) -> None:
        """Move documents of a session, as they are, to the keys that `documents.aside_key` gives."""

    @abstractmethod
    def rewrite(self, changes: Sequence[tuple[str, object, bytes]]) -> list[bool]:
        """Put other text under keys, each if what was read there still is all that is there, in as few trips as can be.

        Index entries stay as they are, and so does what time is left to a session.
        """

    def rotate(self, progress: Progress | None = None) -> int:  # noqa: ARG002
        """Encrypt anew what is not encrypted with the newest key; return how many documents that were."""
        msg = "only what is encrypted has keys to rotate: KVSessionStore(Encrypted(mapping, keys))"
        raise UnsupportedOperationError(msg)

    copied_by = "copy its sessions into another store: other.import_sessions(sessions)"
    """How the storage is backed up, where `backup` cannot."""

    def backup(self, path: AnyPath, *, overwrite: bool) -> None:  # noqa: ARG002
        """Copy all that the storage holds, of one moment, to a new file at *path*, beside other writers."""
        raise UnsupportedOperationError(f"backup copies SQLite files alone; here, {self.copied_by}")

    @abstractmethod
    def all_keys(self) -> Iterator[object]:
        """Iterate over all keys of the mapping, ours and foreign ones."""

    def session_ids(self) -> Iterator[str]:
        """Iterate over the ids of what may be sessions, in the order in which their heads are read fastest.

        One may come twice.
        """
        for key in self.all_keys():
            session_id = session_of_key(key)
            if session_id is not None and key == head_key(session_id):
                yield session_id

    def keys_of(self, session_ids: Iterable[str]) -> Iterator[str]:
        """Iterate over the keys of what lies beside sessions' heads: pages, references to these, what was set aside.

        Goes through all keys where the storage cannot tell.
        """
        wanted = set(session_ids)
        return (key for key in self.all_keys() if isinstance(key, str) and session_beside(key) in wanted)

    def turn(self, session_id: str) -> AbstractContextManager[object]:  # noqa: ARG002
        """Let no other writer of a session commit meanwhile, where `exclusive` cannot keep it out.

        A commit of this thread inside ends the turn.
        """
        return nullcontext()

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep other writers out meanwhile, where the storage can, and commit what is written inside as one.

        A commit inside still compares.
        """
        return nullcontext()

    @abstractmethod
    def scan(
        self, status: SessionStatus, user_id: str | None, after: Position | None, limit: int, *, newest_first: bool
    ) -> list[Position]:
        """Return up to *limit* positions of an index that come after *after*; *user_id* None means all users."""

    @abstractmethod
    def count(self, status: SessionStatus, user_id: str | None, now: int) -> int:
        """Return how many entries an index has that do not expire by *now*, in microseconds since 1970."""

    @abstractmethod
    def expiring(self, until: int, after: Position | None, limit: int) -> list[Position]:
        """Return up to *limit* sessions that expire by *until*, first those that do first: each at its expiry.

        *after* is the last one of the answer before.
        """

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Iterate over what the indexes hold, in no order; a session may come twice where they disagree."""

    def as_indexed(self, entry: Entry) -> Entry:
        """Return an entry as the indexes give it back."""
        return entry

    def known_as(self, user_id: str) -> list[str]:
        """Return by which names the indexes may list a user, and documents that cannot be opened tell of him."""
        return [user_id]

    def suspects(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return which of these that the indexes hold may be wrong although the document's own is there.

        Where they have one entry a session, those without a document: no head need be read for the others.
        """
        return entries

    @abstractmethod
    def indexed(self, entries: Sequence[Entry]) -> list[bool]:
        """Return of each entry whether the indexes hold it, in as few trips as can be."""

    @abstractmethod
    def index(self, session_id: str, expected: str | None, stale: Iterable[Entry], entry: Entry | None) -> bool:
        """Remove *stale* index entries and add *entry*, if the stored head begins with *expected* (None: is gone).

        A stale one need not say when its session expires.
        """

    def purge_expired(self, now: int, progress: Progress | None = None) -> int:  # noqa: ARG002
        """Remove what the indexes hold of sessions that the storage itself forgot by *now*; return how many.

        Where it forgets nothing by itself, there are none.
        """
        return 0

    def mend(self) -> None:  # noqa: B027 (where nothing is held, nothing is to be mended)
        """End what a call of this thread left open when an exception from outside cut it off. May raise nothing."""

    @abstractmethod
    def close(self) -> None:
        """Free what the backend opened itself. Calls after this raise StorageClosedError."""


def pages_there(backend: Backend, runs: Sequence[Run]) -> list[str]:
    """Return the keys of *runs*, in order; where these claim more than a few pages, only those that the storage has.

    A head or a reference of a hundred bytes can claim a million pages. What is done for each page costs what is stored,
    not what is claimed.
    """
    if sum([run.pages for run in runs]) <= _CLAIMED:
        return page_keys(runs)
    there: dict[tuple[str, str], list[int]] = {}
    for key in backend.keys_of({run.owner for run in runs}):
        kind, owner, *rest = key.split("/")
        if kind == "messages":
            there.setdefault((owner, rest[0]), []).append(int(rest[1]))
    return [
        f"{prefix}{number}"
        for run in runs
        for prefix in [f"{page_prefix(run.owner)}{run.generation}/"]
        for number in sorted(there.get((encode_id(run.owner), run.generation), ()))
        if number < run.pages
    ]
