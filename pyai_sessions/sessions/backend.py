"""`Backend`: the storage of a store, and the commits that write sessions to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any

from pyai_sessions.documents.keys import head_key, namespace_prefix, page_prefix, reference_key
from pyai_sessions.documents.limits import KEPT
from pyai_sessions.documents.listed import Names, listed, listings_of
from pyai_sessions.documents.writing import Draft
from pyai_sessions.errors import UnsupportedOperationError
from pyai_sessions.model.heads import named_runs
from pyai_sessions.sessions.expiry import Expiry, listings_of_fork
from pyai_sessions.sessions.pages import pages_there
from pyai_sessions.sessions.writers import Writers, turn_key
from pyai_sessions.storage.families import is_of, storage_of
from pyai_sessions.storage.protocol import Change, Storage
from pyai_sessions.storage.wrappers import Counted, Namespaced
from pyai_sessions.values.checks import AnyPath

if TYPE_CHECKING:
    from pyai_sessions.encryption.sealing import Sealer

LONGER = 60_000
"""Milliseconds by which shared pages outlive the sessions that share them, since two keys do not expire together."""

Progress = Callable[[int], object]
"""A function that bulk methods call with the number of sessions done so far."""


class Backend:
    """The storage of a store's sessions, or of one namespace. All methods may be called from any thread.

    Args:
        whole: The storage.
        under: The prefix of the namespace's keys.
        timeout: Seconds that a writer waits for others.
        ttl: Seconds after its last save for which a session is kept, if its store sets none.
        sealer: Encrypts the documents, if it is given.
        counts: Whether round trips and bytes are counted, for the events of a manager.

    Attributes:
        inner: The storage with all namespaces.
        under: The prefix of the namespace's keys.
        storage: The storage of the namespace. In place of a document that cannot be decrypted it returns the
            InvalidDocumentError that says why.
        names: Translates users to their names in lists.
        expiry: The list of the sessions that expire.
        kept: The terms for documents that are rewritten without a change by the user: they have no limits.
        writers: The turns that writers take, if the storage cannot keep other writers out.
        timeout: Seconds that a writer waits for others.
        settle: Minimum age, in seconds, before an unreferenced page or index entry counts as garbage. Younger ones may
            belong to a save in progress.
        settle_forks: The same for references: a fork writes them before its head.

    """

    def __init__(
        self,
        whole: Storage,
        *,
        under: str = "",
        timeout: float,
        ttl: int | None = None,
        sealer: Sealer | None = None,
        counts: bool = False,
    ) -> None:
        self._whole = whole
        self._asked = inner = Counted(whole) if counts else whole
        self.names = Names()
        if sealer is not None:
            from pyai_sessions.encryption.storage import EncryptedStorage

            inner = EncryptedStorage(inner, sealer)
            self.names = inner.names
        self._sealer = sealer
        self.timeout = timeout
        self.ttl = ttl
        self.inner = inner
        self._work_under(under)

    def _work_under(self, under: str) -> None:
        self.under = under
        self.storage = storage = Namespaced(self.inner, under) if under else self.inner
        self.kept = KEPT._replace(paged=storage.paged)
        self.threads = storage.threads
        self.expiry = Expiry(storage, self.names)
        self.settle = storage.settle if storage.apart or not storage.ordered else 0.0
        self.settle_forks = storage.settle
        self.writers = Writers(storage, self.timeout) if storage.ordered and storage.settle else None
        self._leaves_pages = not storage.ordered  # writes pages and head one after another

    def part(self, under: str) -> Backend:
        """Return the backend of a namespace of the same storage."""
        made = copy(self)
        made._work_under(under)  # noqa: SLF001 (its own class)
        return made

    def counting(self) -> Backend:
        """Return a backend of the same namespace that counts round trips and bytes."""
        return Backend(
            self._whole, under=self.under, timeout=self.timeout, ttl=self.ttl, sealer=self._sealer, counts=True
        )

    @property
    def plain(self) -> Storage | None:
        """The storage, with all namespaces, if documents lie in it as they are; None if they are encrypted."""
        return self._whole if self._sealer is None else None

    # Heads -------------------------------------------------------------------------------------------------------

    def head(self, session_id: str) -> object | None:
        """Return the stored head of a session, or None."""
        key = head_key(session_id)
        return self.storage.read([key]).get(key)

    def heads(self, session_ids: Iterable[str]) -> dict[str, object]:
        """Return the stored heads of sessions, in the given order, in one round trip; missing ones are left out."""
        keys = {each: head_key(each) for each in session_ids}
        found = self.storage.read(list(keys.values())) if keys else {}
        return {each: found[key] for each, key in keys.items() if key in found}

    def commit(self, draft: Draft) -> bool:
        """Store a draft if the stored session is still the one that it was made for; else return False.

        All or nothing: pages first, the head last, then the lists. A commit may be repeated: a draft that is stored
        already counts as stored.
        """
        change = self._change(draft)
        return self._settled(draft, change, self.storage.write([change])[0])

    def commit_many(self, drafts: Sequence[Draft]) -> list[bool]:
        """Store drafts of different sessions as `commit` does, in as few round trips or transactions as possible.

        After an error, any of them may be stored.
        """
        changes = [self._change(each) for each in drafts]
        return [self._settled(*each) for each in zip(drafts, changes, self.storage.write(changes), strict=True)]

    def change_of(self, draft: Draft) -> Change:
        """Return the change of `inner` that stores a draft; pass its result to `settled`."""
        change = self._change(draft)
        return self.storage.moved(change) if isinstance(self.storage, Namespaced) else change

    def settled(self, draft: Draft, *, done: bool) -> bool:
        """Finish the commit of a draft, whose change was applied or refused; return whether the draft is stored."""
        return self._settled(draft, self._change(draft), done)

    def _change(self, draft: Draft) -> Change:
        before, stored, drop = draft.before, draft.stored, draft.garbage
        session_id, entry = stored.head.session_id, stored.entry
        key = head_key(session_id)
        expect: list[tuple[str, str | None]] = [(key, before.stamp if before else None)]
        if self.writers is not None:
            turn, token = turn_key(session_id), self.writers.token_of(session_id)
            expect.append((turn, token or None))
            drop = [*drop, turn] if token else drop
        elif self._leaves_pages:
            prefix = page_prefix(session_id)
            expect += [(prefix + each, None) for each in draft.leftovers]
        head = draft.head.ljust(self.storage.padded) if stored.head.sealed else draft.head
        return Change(
            expect,
            stored.stamp,
            [*draft.pages.items(), (key, head)],
            drop,
            listings_of(before.entry if before else None, entry),
            None if entry.expires is None else draft.time_left or 0,
        )

    def _settled(self, draft: Draft, change: Change, done: bool) -> bool:  # noqa: FBT001 (a result)
        """Finish a commit whose change was applied or refused; return whether the draft is stored."""
        if not done and self._leaves_pages:
            done = self._write_over(draft, change)
        if done and self.writers is not None and self.writers.token_of(draft.session_id):
            self.writers.end()
        if done and draft.time_left and self.storage.forgets:
            self._keep_up(draft, draft.time_left)
        return done

    def _write_over(self, draft: Draft, change: Change) -> bool:
        """Remove pages that an interrupted save left under a draft's keys, and store it; return whether it did."""
        prefix = page_prefix(draft.session_id)
        there = self.storage.read([prefix + each for each in draft.leftovers])
        named = set[str]()
        if there and draft.before is not None:
            named.update(pages_there(self.storage, named_runs(draft.before.head)))
        left = [each for first in there for each in self._pages_from(first, named)]
        change = change._replace(expect=change.expect[:1], drop=[*change.drop, *left])
        return bool(left) and self.storage.write([change])[0]

    def _pages_from(self, first: str, named: Collection[str]) -> Iterator[str]:
        """Iterate over the stored pages from *first* on, up to one that is *named* by the head."""
        start, _, number = first.rpartition("/")
        pages = (f"{start}/{n}" for n in count(int(number)))
        return takewhile(lambda page: page not in named and self.storage.read([page]), pages)

    def _keep_up(self, draft: Draft, left: int) -> None:
        """Extend the life of shared pages to that of the session, and now and then clean up after expired sessions."""
        expires = draft.stored.entry.expires
        for owner in draft.owners:  # one change each: two owners may share a place
            key = reference_key(owner, draft.session_id, draft.stored.head.incarnation)
            lists = listings_of_fork(self.storage, key, expires)
            self.storage.write([Change(expect=[(key, "")], lists=lists, lives=left + LONGER)])
        if expires is not None:
            self.expiry.sweep_sometimes(expires - 1000 * left)

    def turn(self, session_id: str) -> AbstractContextManager[object]:
        """Keep other writers of a session from committing, if `Storage.exclusive` cannot do that.

        A commit of this thread ends the turn.
        """
        return nullcontext() if self.writers is None else self.writers.turn(session_id)

    # The whole storage -------------------------------------------------------------------------------------------

    def rotate(self, progress: Progress | None = None) -> int:
        """Encrypt all documents with the newest key; return how many were not."""
        if self._sealer is None:
            msg = "this store is not encrypted, so it has no keys to rotate: KVSessionStore(Encrypted(mapping, keys))"
            raise UnsupportedOperationError(msg)
        from pyai_sessions.encryption.rotation import rotate

        return rotate(self._asked, self._sealer, self.under, progress)

    def backup(self, path: AnyPath, *, overwrite: bool) -> None:
        """Copy everything in the storage, as of one moment, to a new file at *path*, while others write."""
        backup: Callable[..., None] | None = getattr(self._whole, "backup", None)
        if backup is None:
            remedy = "copy the sessions to another store: manager.copy_sessions(target)"
            raise UnsupportedOperationError(f"backup copies SQLite files and diskcache directories; here, {remedy}")
        backup(path, overwrite=overwrite)


def backend_of(mapping: Any, *, shared: bool = False, timeout: float = 10.0, namespace: str | None = None) -> Backend:
    """Return the backend of a mapping, or of a namespace in it.

    Raises:
        UnsuitableMappingError: The mapping cannot keep sessions safely; the error says which can.

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
