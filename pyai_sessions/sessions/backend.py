"""What the store asks of a storage, in the words of sessions: heads, pages, references, indexes; in those of storage.

It knows nothing of messages: it moves the text of documents, and the entries of the indexes that come with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, count, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from pyai_sessions.documents.envelopes import listed, start_of
from pyai_sessions.documents.keys import (
    aside_key,
    aside_prefix,
    encode_id,
    head_key,
    namespace_prefix,
    page_keys,
    page_prefix,
    reference_key,
    reference_prefix,
    session_beside,
)
from pyai_sessions.documents.listed import Names, listings_of
from pyai_sessions.documents.writing import Draft
from pyai_sessions.errors import UnsupportedOperationError
from pyai_sessions.model.heads import Run
from pyai_sessions.sessions.expiry import Expiry
from pyai_sessions.sessions.writers import Writers, turn_key
from pyai_sessions.storage.families import is_of, storage_of
from pyai_sessions.storage.names import place_of
from pyai_sessions.storage.namespaces import Namespaced
from pyai_sessions.storage.protocol import Change, Listing, Storage
from pyai_sessions.values.checks import AnyPath

if TYPE_CHECKING:
    from pyai_sessions.encryption.sealing import Sealer

_LONGER = 60_000
"""Milliseconds by which shared pages outlive those that share them: two keys do not expire at the same moment."""


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


class Backend:
    """Sessions in a storage, or in a namespace of it. All methods may be called from any thread.

    Text comes back as the storage holds it (str or bytes): only `documents` judges it. In the place of what cannot be
    decrypted comes the InvalidDocumentError that says why. Every method raises a `StorageError` when the storage fails.

    Args:
        whole: The storage.
        under: What the keys of the namespace begin with.
        timeout: Seconds that a writer waits for others.
        ttl: Seconds that a session lives after its last save, where its store does not say so.
        sealer: The ring that encrypts the documents.

    Attributes:
        storage: The storage, or its part: documents and lists.
        names: How its lists name users.
        threads: How many calls at the same time are worth a thread each.
        together: How many calls of an event loop's tasks share their trips, if any do.
        settle: Seconds after which pages and index entries that no head bears out are of no save that is still at work.
        settle_forks: Likewise of references: a fork leaves them before it writes its head.
        expiry: The list of the sessions that expire.

    """

    def __init__(
        self,
        whole: Storage,
        *,
        under: str = "",
        timeout: float,
        ttl: int | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        inner, names = whole, Names()
        if sealer is not None:
            from pyai_sessions.encryption.storage import EncryptedStorage

            inner = EncryptedStorage(whole, sealer)
            names = inner.names
        self._whole = whole
        self._under = under
        self._sealer = sealer
        self._part = Namespaced(inner, under)
        self.storage = storage = self._part if under else inner  # which need not be asked what is of no namespace
        self._timeout = timeout
        self.ttl = ttl
        self.threads = storage.threads
        self.together = storage.together
        self.settle = storage.settle if storage.apart or not storage.ordered else 0.0
        self.settle_forks = storage.settle
        self.names = names
        self.expiry = Expiry(storage, names)
        self._writers = Writers(storage, timeout) if storage.ordered and storage.settle else None
        self._padded = storage.padded
        self._leaves_pages = not storage.ordered  # writes pages and head one after another

    # Reading -----------------------------------------------------------------------------------------------------

    def read(self, session_id: str) -> object | None:
        """Return the head of a session, or None."""
        key = head_key(session_id)
        return self.storage.read([key]).get(key)

    def read_many(self, session_ids: Sequence[str]) -> list[object | None]:
        """Return the heads of sessions, in that order, in as few trips as the storage allows."""
        return self.read_pages([head_key(each) for each in session_ids])

    def read_session(self, wanted: Wanted) -> Found:
        """Return the head of a session and wanted pages, in one trip; pages may be left out."""
        key = head_key(wanted.session_id)
        found = self.storage.read([key, *self._pages_of(wanted)])
        return found.pop(key, None), found

    def read_sessions(self, wanted: Sequence[Wanted]) -> list[Found]:
        """Return what `read_session` does of sessions, in that order, in as few trips as the storage allows."""
        keys = [[head_key(each.session_id), *self._pages_of(each)] for each in wanted]
        read = self.storage.read(list(dict.fromkeys(chain(*keys))))
        found: list[Found] = []
        for (session_id, pages), (head, *more) in zip(wanted, keys, strict=True):
            prefix = page_prefix(session_id)
            own = (
                [key for key in read if key.startswith(prefix)]
                if pages is None
                else [key for key in more if key in read]
            )
            found.append((read.get(head), {key: read[key] for key in own}))
        return found

    def _pages_of(self, wanted: Wanted) -> Sequence[str]:
        """Return what is to be read for the pages that are wanted with a session's head."""
        session_id, pages = wanted
        if pages is not None:
            return pages
        return [page_prefix(session_id)] if self.storage.ordered else ()

    def read_pages(self, keys: Sequence[str]) -> list[object | None]:
        """Return pages, of one session or of many, by their keys, in that order, in as few trips as can be."""
        found = self.storage.read(keys) if keys else {}
        return [found.get(key) for key in keys]

    def all_keys(self) -> Iterator[object]:
        """Iterate over all keys of the mapping, ours and foreign ones."""
        return self._part.keys()

    def keys_of(self, session_ids: Iterable[str]) -> Iterator[str]:
        """Iterate over the keys of what lies beside sessions' heads: pages, references to these, what was set aside.

        Goes through all keys where the storage cannot tell.
        """
        if not self.storage.ordered:
            wanted = set(session_ids)
            yield from (key for key in self._part.keys("") if session_beside(key) in wanted)
            return
        for each in session_ids:
            for prefix in (page_prefix(each), reference_prefix(each), aside_prefix(each)):
                yield from (key for key in self.storage.keys(prefix) if session_beside(key) == each)

    # Writing -----------------------------------------------------------------------------------------------------

    def commit(self, draft: Draft) -> bool:
        """Store a draft if what is stored is still what it was made for; else return False.

        All or nothing: pages first, the head last, the index entry replaced. A draft that is stored already counts as
        stored, so a commit may be repeated.
        """
        change = self._commit(draft)
        done = self.storage.write([change])[0]
        if not done and self._leaves_pages:
            done = self._write_over(draft, change)
        if done and self._writers is not None and self._writers.token_of(draft.session_id):
            self._writers.end()
        if done and draft.time_left and self.storage.forgets:
            self._keep_up([draft])
        return done

    def commit_many(self, drafts: Sequence[Draft]) -> list[bool]:
        """Store drafts of different sessions, each as `commit` does, in as few trips or transactions as can be.

        An error may leave any of them stored.
        """
        changes = [self._commit(each) for each in drafts]
        done = self.storage.write(changes)
        if self._leaves_pages and not all(done):
            tried = zip(drafts, changes, done, strict=True)
            done = [stored or self._write_over(draft, change) for draft, change, stored in tried]
        mortal = [draft for draft, stored in zip(drafts, done, strict=True) if stored and draft.time_left]
        if mortal and self.storage.forgets:
            self._keep_up(mortal)
        return done

    def _commit(self, draft: Draft) -> Change:
        key = head_key(draft.session_id)
        expect: list[tuple[str, str | None]] = [(key, draft.expected)]
        drop = draft.garbage
        if self._writers is not None:
            turn, token = turn_key(draft.session_id), self._writers.token_of(draft.session_id)
            expect.append((turn, token or None))
            drop = [*drop, turn] if token else drop
        elif self._leaves_pages:
            prefix = page_prefix(draft.session_id)
            expect += [(prefix + each, None) for each in draft.leftovers]
        return Change(
            expect,
            draft.stamp,
            [*draft.pages.items(), (key, draft.head.ljust(self._padded) if draft.stored.head.sealed else draft.head)],
            drop,
            listings_of(draft.previous, draft.entry),
            None if draft.entry.expires is None else draft.time_left or 0,
        )

    def _write_over(self, draft: Draft, change: Change) -> bool:
        """Store a draft that was refused, perhaps for pages alone that a save left that was cut short: they go."""
        prefix = page_prefix(draft.session_id)
        there = self.storage.read([prefix + each for each in draft.leftovers])
        left = [each for first in there for each in self._pages_from(first)]
        change = change._replace(expect=change.expect[:1], drop=[*change.drop, *left])
        return bool(left) and self.storage.write([change])[0]

    def _pages_from(self, first: str) -> Iterator[str]:
        start, _, number = first.rpartition("/")
        pages = (f"{start}/{n}" for n in count(int(number)))
        return takewhile(lambda page: self.storage.read([page]), pages)

    def _keep_up(self, drafts: Sequence[Draft]) -> None:
        """Let shared pages live as long as those that share them, and clear away now and then what was forgotten."""
        renewals = [
            Change(expect=[(key, "")], lives=(each.time_left or 0) + _LONGER)
            for each in drafts
            for owner in each.owners
            for key in [reference_key(owner, each.session_id, each.stored.head.incarnation)]
        ]
        for each in renewals:  # one by one: some may be of one place
            self.storage.write([each])
        ends, left = drafts[-1].entry.expires, drafts[-1].time_left
        if ends is not None and left:
            self.expiry.sweep_sometimes(len(drafts), ends - 1000 * left)

    def remove(self, session_id: str, expected: str | None, runs: Sequence[Run], lists: Sequence[Listing]) -> bool:
        """Delete a session's head if it begins with *expected*, then *runs*, and change *lists*; else return False.

        *runs* are pages of its own; what is left of their generations may go with them. *expected* None deletes
        whatever head is there.
        """
        key, prefix = head_key(session_id), page_prefix(session_id)
        if self.storage.ordered:
            pages = [f"{prefix}{each}/" for each in dict.fromkeys(run.generation for run in runs)]
        else:
            pages = pages_there(self, runs)
        change = Change(
            expect=() if expected is None else [(key, expected)],
            drop=[key, *pages] if self._writers is None else [key, *pages, turn_key(session_id)],
            lists=lists,
        )
        return self.storage.write([change])[0]

    def remove_pages(self, session_id: str, keys: Sequence[str], expected: str | None) -> bool:
        """Delete pages if the stored head still begins with *expected* (None: is gone); else return False."""
        return self.storage.write([Change(expect=[(head_key(session_id), expected)], drop=keys)])[0]

    def refer(self, key: str, reference: bytes | None, time_left: int | None = None) -> None:
        """Store a *reference* to a session's pages where they lie, whether or not its head is there; None deletes it.

        The storage then keeps what lies there for at least *time_left* milliseconds; None keeps it for ever.
        """
        if reference is None:
            self.storage.write([Change(drop=[key])])
        else:
            lives = None if time_left is None else time_left + _LONGER
            self.storage.write([Change(put=[(key, reference)], lives=lives)])

    def references(self, owner: str) -> dict[str, object]:
        """Return the references to a session's pages by their keys."""
        prefix, storage = reference_prefix(owner), self.storage
        if storage.ordered:
            return storage.read([prefix])
        with storage.exclusive():
            return storage.read(list(storage.keys(prefix)))

    def set_aside(self, session_id: str, keys: Sequence[str], token: str) -> None:  # noqa: ARG002
        """Move documents of a session, as they are, to the keys that `documents.aside_key` gives."""
        found = self.storage.read(keys)
        if found:
            expect = [(key, start_of(value)) for key, value in found.items()]
            put = [(aside_key(key, token), value) for key, value in found.items()]
            self.storage.write([Change(expect=expect, put=put, drop=list(found))])

    def rewrite(self, changes: Sequence[tuple[str, object, bytes]]) -> list[bool]:
        """Put other text under keys, each if what was read there still is all that is there, in as few trips as can be.

        Index entries stay as they are, and so does what time is left to a session.
        """
        places: dict[str, list[tuple[str, object, bytes]]] = {}
        for each in changes:
            places.setdefault(place_of(each[0]), []).append(each)
        same = self.storage.write([_rewriting(those) for those in places.values()])
        done: dict[str, bool] = {}
        for those, all_same in zip(places.values(), same, strict=True):
            for each in those:  # of a place of which one document changed meanwhile, the others are written one by one
                alone = not all_same and len(those) > 1
                done[each[0]] = self.storage.write([_rewriting([each])])[0] if alone else all_same
        return [done[key] for key, _, _ in changes]

    def rotate(self, progress: Progress | None = None) -> int:
        """Encrypt anew what is not encrypted with the newest key; return how many documents that were."""
        if self._sealer is None:
            msg = "only what is encrypted has keys to rotate: KVSessionStore(Encrypted(mapping, keys))"
            raise UnsupportedOperationError(msg)
        from pyai_sessions.encryption.rotation import rotate

        return rotate(self._whole, self._sealer, self._under, progress)

    def backup(self, path: AnyPath, *, overwrite: bool) -> None:
        """Copy all that the storage holds, of one moment, to a new file at *path*, beside other writers."""
        backup: Callable[..., None] | None = getattr(self._whole, "backup", None)
        if backup is None:
            remedy = "copy its sessions into another store: other.import_sessions(sessions)"
            raise UnsupportedOperationError(f"backup copies SQLite files alone; here, {remedy}")
        backup(path, overwrite=overwrite)

    # Writers -----------------------------------------------------------------------------------------------------

    def turn(self, session_id: str) -> AbstractContextManager[object]:
        """Let no other writer of a session commit meanwhile, where `exclusive` cannot keep it out.

        A commit of this thread inside ends the turn.
        """
        return nullcontext() if self._writers is None else self._writers.turn(session_id)

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep other writers out meanwhile, where the storage can, and commit what is written inside as one.

        A commit inside still compares.
        """
        return self.storage.exclusive()

    def mend(self) -> None:
        """End what a call of this thread left open when an exception from outside cut it off. May raise nothing."""
        self.storage.mend()

    def close(self) -> None:
        """Free what the backend opened itself. Calls after this raise StorageClosedError."""
        self.storage.close()


def _rewriting(changes: Sequence[tuple[str, object, bytes]]) -> Change:
    """Return what puts other documents of one place in the place of those that were read."""
    return Change(
        expect=[(key, start_of(old)) for key, old, _ in changes],
        done=start_of(changes[0][2]),
        put=[(key, text) for key, _, text in changes],
    )


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


def backend_of(mapping: Any, *, shared: bool = False, timeout: float = 10.0, namespace: str | None = None) -> Backend:
    """Return the backend of a mapping, or of a namespace in it.

    Raises:
        UnsuitableMappingError: It cannot keep sessions safely; the error says what can.

    """
    sealer = None
    if is_of(mapping, "pyai_sessions", "Encrypted"):
        mapping, sealer = mapping.mapping, mapping.sealer
    return Backend(
        storage_of(mapping, listed, shared=shared, timeout=timeout),
        under=namespace_prefix(namespace),
        timeout=timeout,
        ttl=mapping.ttl if is_of(mapping, "pyai_sessions", "RedisMapping") else None,
        sealer=sealer,
    )
