"""What a store knows of its storage: where it lies, how sessions are written to it, how long other writers may take."""

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
from pyai_sessions.sessions.expiry import Expiry
from pyai_sessions.sessions.pages import pages_there
from pyai_sessions.sessions.writers import Writers, turn_key
from pyai_sessions.storage.families import is_of, storage_of
from pyai_sessions.storage.protocol import Change, Storage
from pyai_sessions.storage.wrappers import Counted, Namespaced
from pyai_sessions.values.checks import AnyPath

if TYPE_CHECKING:
    from pyai_sessions.encryption.sealing import Sealer

LONGER = 60_000
"""Milliseconds by which shared pages outlive those that share them: two keys do not expire at the same moment."""

Progress = Callable[[int], object]
"""Is called now and then with the number of sessions that are done."""


class Backend:
    """The storage of a store's sessions, or of a namespace. All methods may be called from any thread.

    Args:
        whole: The storage.
        under: What the keys of the namespace begin with.
        timeout: Seconds that a writer waits for others.
        ttl: Seconds that a session lives after its last save, where its store does not say so.
        sealer: The ring that encrypts the documents.
        counts: Whether what calls ask of the storage is counted, for the events of a manager.

    Attributes:
        inner: The storage, with all namespaces.
        under: What the keys of the namespace begin with.
        storage: The storage, or its part: documents and lists. In the place of a document that cannot be decrypted it
            returns the InvalidDocumentError that says why.
        names: How its lists name users.
        expiry: The list of the sessions that expire.
        kept: The terms on which it keeps what is stored already.
        writers: Whose turn it is to write, where the storage cannot keep other writers out.
        timeout: Seconds that a writer waits for others.
        settle: Seconds after which pages and list members that no head bears out are of no save that is still at work.
        settle_forks: Likewise of references: a fork leaves them before it writes its head.

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
        """Return a backend of the same part of the storage that counts what calls ask of it."""
        return Backend(
            self._whole, under=self.under, timeout=self.timeout, ttl=self.ttl, sealer=self._sealer, counts=True
        )

    @property
    def plain(self) -> Storage | None:
        """The storage, with all namespaces, if documents lie in it as they are; None if they are encrypted."""
        return self._whole if self._sealer is None else None

    # Heads -------------------------------------------------------------------------------------------------------

    def head(self, session_id: str) -> object | None:
        """Return the head of a session as it is stored, or None."""
        key = head_key(session_id)
        return self.storage.read([key]).get(key)

    def heads(self, session_ids: Iterable[str]) -> dict[str, object]:
        """Return the heads of those of the sessions that are there, in that order, in one trip."""
        keys = {each: head_key(each) for each in session_ids}
        found = self.storage.read(list(keys.values())) if keys else {}
        return {each: found[key] for each, key in keys.items() if key in found}

    def commit(self, draft: Draft) -> bool:
        """Store a draft if what is stored is still what it was made for; else return False.

        All or nothing: pages first, the head last, then the lists. A draft that is stored already counts as stored, so
        a commit may be repeated.
        """
        change = self._change(draft)
        return self._settled(draft, change, self.storage.write([change])[0])

    def commit_many(self, drafts: Sequence[Draft]) -> list[bool]:
        """Store drafts of different sessions, each as `commit` does, in as few trips or transactions as can be.

        An error may leave any of them stored.
        """
        changes = [self._change(each) for each in drafts]
        return [self._settled(*each) for each in zip(drafts, changes, self.storage.write(changes), strict=True)]

    def change_of(self, draft: Draft) -> Change:
        """Return the change of `inner` that stores a draft; `settled` is then told what came of it."""
        change = self._change(draft)
        return self.storage.moved(change) if isinstance(self.storage, Namespaced) else change

    def settled(self, draft: Draft, *, done: bool) -> bool:
        """Return whether a draft is stored whose change was applied, or was refused."""
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

    def _settled(self, draft: Draft, change: Change, done: bool) -> bool:  # noqa: FBT001 (an answer)
        """Do what is left to do of a commit that was written, or was refused; return whether the draft is stored."""
        if not done and self._leaves_pages:
            done = self._write_over(draft, change)
        if done and self.writers is not None and self.writers.token_of(draft.session_id):
            self.writers.end()
        if done and draft.time_left and self.storage.forgets:
            self._keep_up(draft, draft.time_left)
        return done

    def _write_over(self, draft: Draft, change: Change) -> bool:
        """Store a draft that was refused, perhaps for pages alone that a save left that was cut short: they go."""
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
        """Let shared pages live as long as those that share them, and clear away now and then what was forgotten."""
        for owner in draft.owners:  # one by one: some may be of one place
            key = reference_key(owner, draft.session_id, draft.stored.head.incarnation)
            self.storage.write([Change(expect=[(key, "")], lives=left + LONGER)])
        expires = draft.stored.entry.expires
        if expires is not None:
            self.expiry.sweep_sometimes(expires - 1000 * left)

    def turn(self, session_id: str) -> AbstractContextManager[object]:
        """Let no other writer of a session commit meanwhile, where `Storage.exclusive` cannot keep it out.

        A commit of this thread inside ends the turn.
        """
        return nullcontext() if self.writers is None else self.writers.turn(session_id)

    # The whole storage -------------------------------------------------------------------------------------------

    def rotate(self, progress: Progress | None = None) -> int:
        """Encrypt anew what is not encrypted with the newest key; return how many documents that were."""
        if self._sealer is None:
            msg = "only what is encrypted has keys to rotate: KVSessionStore(Encrypted(mapping, keys))"
            raise UnsupportedOperationError(msg)
        from pyai_sessions.encryption.rotation import rotate

        return rotate(self._asked, self._sealer, self.under, progress)

    def backup(self, path: AnyPath, *, overwrite: bool) -> None:
        """Copy all that the storage holds, of one moment, to a new file at *path*, beside other writers."""
        backup: Callable[..., None] | None = getattr(self._whole, "backup", None)
        if backup is None:
            remedy = "copy its sessions into another store: other.import_sessions(sessions)"
            raise UnsupportedOperationError(f"backup copies SQLite files and diskcache directories; here, {remedy}")
        backup(path, overwrite=overwrite)


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
