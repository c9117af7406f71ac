"""Any other backend, with its documents encrypted and the users of its indexes hashed.

What is atomic, compared, indexed and expires below stays so: an encrypted head begins with its revision, and shows its
index entry (see `pyai_sessions.envelopes`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import groupby, islice

from pyai_sessions.backends.protocol import Backend, Found, Position, Progress, Wanted
from pyai_sessions.checks import AnyPath
from pyai_sessions.documents import is_stamp, read_head, stamp_of_value
from pyai_sessions.drafts import Draft
from pyai_sessions.envelopes import read_envelope
from pyai_sessions.errors import EncryptionError, InvalidDocumentError, OversizedDocumentError, StorageLockedError
from pyai_sessions.heads import Entry, Run, SessionStatus
from pyai_sessions.keys import decode_id, head_key, session_of_key, written_key
from pyai_sessions.sealing import NOT_ENCRYPTED, OTHER_INDEX, Sealer

_TOGETHER = 100
"""Documents that are encrypted anew in one transaction or trip."""

_TRIES = 100
"""How often a document that changes is read again, to be encrypted anew."""


class SealedBackend(Backend):
    """Encrypted sessions in what another backend keeps; *under* is what keys of its namespace begin with."""

    def __init__(self, inner: Backend, sealer: Sealer, under: str = "") -> None:
        self._inner = inner
        self._sealer = sealer
        self._under = under
        self._fits = False
        self.threads = inner.threads
        self.settle = inner.settle
        self.settle_forks = inner.settle_forks
        self.together = inner.together
        self.distant = inner.distant
        self.copied_by = inner.copied_by
        self.ttl = inner.ttl

    def _at(self, key: str) -> str:
        """Return a key as it stands in the mapping: what a document is bound to."""
        return self._under + key

    def _open(self, key: str, value: object | None) -> object | None:
        return self._sealer.open(self._at(key), value)

    # Reading -----------------------------------------------------------------------------------------------------

    def read(self, session_id: str) -> object | None:  # noqa: D102 (the protocol documents it)
        return self._open(head_key(session_id), self._inner.read(session_id))

    def read_many(self, session_ids: Sequence[str]) -> list[object | None]:  # noqa: D102
        values = zip(session_ids, self._inner.read_many(session_ids), strict=True)
        return [self._open(head_key(each), value) for each, value in values]

    def read_session(self, wanted: Wanted) -> Found:  # noqa: D102
        return self._opened(wanted.session_id, *self._inner.read_session(wanted))

    def read_sessions(self, wanted: Sequence[Wanted]) -> list[Found]:  # noqa: D102
        found = zip(wanted, self._inner.read_sessions(wanted), strict=True)
        return [self._opened(each.session_id, *sealed) for each, sealed in found]

    def _opened(self, session_id: str, head: object | None, pages: Mapping[str, object]) -> Found:
        opened = {key: self._open(key, value) for key, value in pages.items()}
        return self._open(head_key(session_id), head), opened

    def read_pages(self, keys: Sequence[str]) -> list[object | None]:  # noqa: D102
        values = zip(keys, self._inner.read_pages(keys), strict=True)
        return [self._open(key, value) for key, value in values]

    def all_keys(self) -> Iterator[object]:  # noqa: D102
        return self._inner.all_keys()

    def session_ids(self) -> Iterator[str]:  # noqa: D102
        return self._inner.session_ids()

    def keys_of(self, session_ids: Iterable[str]) -> Iterator[str]:  # noqa: D102
        return self._inner.keys_of(session_ids)

    def mend(self) -> None:  # noqa: D102
        self._inner.mend()

    # Writing -----------------------------------------------------------------------------------------------------

    def commit(self, draft: Draft) -> bool:  # noqa: D102
        self._check_fit()
        return self._inner.commit(self._sealed(draft))

    def commit_many(self, drafts: Sequence[Draft]) -> list[bool]:  # noqa: D102
        self._check_fit()
        return self._inner.commit_many([self._sealed(each) for each in drafts])

    def _sealed(self, draft: Draft) -> Draft:
        key = self._at(head_key(draft.session_id))
        return Draft(
            session_id=draft.session_id,
            expected=self._stored_as(draft.session_id, draft.expected),
            previous=self._indexed_as(draft.previous),
            head=self._sealer.seal_head(key, draft.stamp, draft.entry, draft.head),
            stored=draft.stored,
            entry=self._sealer.entry(draft.entry),
            pages={each: self._sealer.seal(self._at(each), page) for each, page in draft.pages.items()},
            garbage=draft.garbage,
            leftovers=draft.leftovers,
            owners=draft.owners,
            time_left=draft.time_left,
        )

    def _stored_as(self, session_id: str, expected: str | None) -> str | None:
        """Return how what is stored begins where the text in it begins as *expected*.

        The same for all that was written by us. A head that was formatted by hand is compared whole: it is read first.
        """
        if expected is None or is_stamp(expected):
            return expected
        value = self._inner.read(session_id)
        same = stamp_of_value(self._open(head_key(session_id), value)) == expected
        return stamp_of_value(value) if same else expected

    def _indexed_as(self, entry: Entry | None) -> Entry | None:
        """Return an entry as the indexes hold it: while a store is migrated, that of a plain head as it is."""
        if entry is None:
            return None
        if self._sealer.migrate and _plain_entry(self._inner.read(entry.session_id), entry.session_id):
            return entry
        return self._sealer.entry(entry)

    def remove(self, session_id: str, expected: str | None, runs: Sequence[Run], previous: Entry | None) -> bool:  # noqa: D102
        stored = self._stored_as(session_id, expected)
        return self._inner.remove(session_id, stored, runs, self._indexed_as(previous))

    def remove_pages(self, session_id: str, keys: Sequence[str], expected: str | None) -> bool:  # noqa: D102
        return self._inner.remove_pages(session_id, keys, self._stored_as(session_id, expected))

    def refer(self, key: str, reference: bytes | None, time_left: int | None = None) -> None:  # noqa: D102
        self._check_fit()
        self._inner.refer(key, reference and self._sealer.seal(self._at(key), reference), time_left)

    def references(self, owner: str) -> dict[str, object]:  # noqa: D102
        return {key: self._open(key, value) for key, value in self._inner.references(owner).items()}

    def set_aside(self, session_id: str, keys: Sequence[str], token: str) -> None:  # noqa: D102
        self._inner.set_aside(session_id, keys, token)

    def rewrite(self, changes: Sequence[tuple[str, object, bytes]]) -> list[bool]:  # noqa: D102
        self._check_fit()
        keys = [key for key, _, _ in changes]
        stored = dict(zip(keys, self._inner.read_pages(keys), strict=True))
        same = [self._open(key, stored[key]) == old for key, old, _ in changes]
        sealed = [
            (key, stored[key], self._sealer.seal(self._at(key), text))
            for (key, _, text), each in zip(changes, same, strict=True)
            if each
        ]
        done = iter(self._inner.rewrite(sealed) if sealed else ())
        return [each and next(done) for each in same]

    def turn(self, session_id: str) -> AbstractContextManager[object]:  # noqa: D102
        return self._inner.turn(session_id)

    def exclusive(self) -> AbstractContextManager[object]:  # noqa: D102
        return self._inner.exclusive()

    # Rotation ----------------------------------------------------------------------------------------------------

    def backup(self, path: AnyPath, *, overwrite: bool) -> None:  # noqa: D102
        self._inner.backup(path, overwrite=overwrite)

    def rotate(self, progress: Progress | None = None) -> int:
        """Encrypt with the newest key what is not, plain documents too while a store is migrated; return how many.

        Beside other writers: a document that changed since it was read is read again. Its text and its revision stay.
        """
        self._check_fit()
        rewritten = done = 0
        refused: list[InvalidDocumentError] = []
        keys = (each for each in self._inner.all_keys() if isinstance(each, str))
        while batch := list(islice(keys, _TOGETHER)):
            due = batch
            for _ in range(_TRIES):
                if not due:
                    break
                changes = self._changes(due, refused)
                self._index_hashed(changes)
                replaced = self._inner.rewrite(changes) if changes else []
                rewritten += sum(replaced)
                due = [key for (key, _, _), same in zip(changes, replaced, strict=True) if not same]
            if due:
                raise StorageLockedError(due[0], f"other writers changed it at {_TRIES} tries")
            done += len(batch)
            if progress:
                progress(done)
        if refused:
            raise refused[0]
        return rewritten

    def _changes(self, keys: Sequence[str], refused: list[InvalidDocumentError]) -> list[tuple[str, object, bytes]]:
        """Return what is to be rewritten: key, value, new text. What the ring or the bounds forbid joins *refused*."""
        changes: list[tuple[str, object, bytes]] = []
        for key, value in zip(keys, self._inner.read_pages(keys), strict=True):
            try:
                if self._is_due(key, value):
                    changes.append((key, value, self._sealer.resealed(self._at(key), value)))
            except (EncryptionError, OversizedDocumentError) as err:  # noqa: PERF203 (the others are done)
                refused.append(err)
            except InvalidDocumentError:
                continue  # damaged: no key opens it
        return changes

    def _is_due(self, key: str, value: object) -> bool:
        """Return whether a value is a document of ours that is not encrypted with the newest key."""
        if read_envelope(value):
            return not self._sealer.is_current(value)
        return value is not None and session_of_key(written_key(key)) is not None

    def _index_hashed(self, changes: Iterable[tuple[str, object, bytes]]) -> None:
        """Hash the users of plain heads in the indexes: first, so that what is cut short is found to be done."""
        for key, value, _ in changes:
            session_id = session_of_key(key)
            entry = _plain_entry(value, session_id) if session_id and key == head_key(session_id) else None
            if entry:
                stale = [self._inner.as_indexed(entry)]
                self._inner.index(entry.session_id, stamp_of_value(value), stale, self._sealer.entry(entry))

    # Indexes -----------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, status: SessionStatus, user_id: str | None, after: Position | None, limit: int, *, newest_first: bool
    ) -> list[Position]:
        names = self._names(user_id)
        found = [self._inner.scan(status, each, after, limit, newest_first=newest_first) for each in names]
        merged = groupby(heapq.merge(*found, reverse=newest_first))
        return [position for position, _ in islice(merged, limit)]

    def count(self, status: SessionStatus, user_id: str | None, now: int) -> int:  # noqa: D102
        return sum(self._inner.count(status, each, now) for each in self._names(user_id))

    def expiring(self, until: int, after: Position | None, limit: int) -> list[Position]:  # noqa: D102
        return self._inner.expiring(until, after, limit)

    def _names(self, user_id: str | None) -> Sequence[str | None]:
        """Return the names by which the indexes may list a user's sessions."""
        return [None] if user_id is None else self.known_as(user_id)

    def known_as(self, user_id: str) -> list[str]:  # noqa: D102
        self._check_fit()
        hashed = self._sealer.user(user_id)
        return [hashed, user_id] if self._sealer.migrate else [hashed]

    def entries(self) -> Iterator[Entry]:  # noqa: D102
        return self._inner.entries()

    def as_indexed(self, entry: Entry) -> Entry:  # noqa: D102
        return self._inner.as_indexed(self._sealer.entry(entry))

    def suspects(self, entries: Sequence[Entry]) -> Sequence[Entry]:  # noqa: D102
        return self._inner.suspects(entries)

    def indexed(self, entries: Sequence[Entry]) -> list[bool]:  # noqa: D102
        return self._inner.indexed([self._sealer.entry(each) for each in entries])

    def index(self, session_id: str, expected: str | None, stale: Iterable[Entry], entry: Entry | None) -> bool:  # noqa: D102
        stored = self._stored_as(session_id, expected)
        return self._inner.index(session_id, stored, stale, entry and self._sealer.entry(entry))

    def purge_expired(self, now: int, progress: Progress | None = None) -> int:  # noqa: D102
        return self._inner.purge_expired(now, progress)

    def close(self) -> None:  # noqa: D102
        self._inner.close()

    def _check_fit(self) -> None:
        """Raise unless the ring fits what is stored: with another, lists of users would be empty without a word.

        Looks once, at the session that is idle longest: it is none that was written with the wrong ring a moment ago.
        """
        if self._fits:
            return
        for status in SessionStatus:
            for _, name in self._inner.scan(status, None, None, 1, newest_first=False):
                session_id = decode_id(name) or name
                value = self._inner.read(session_id)
                found = read_envelope(value)
                if found and found.index_check not in ("", self._sealer.index):
                    raise EncryptionError(self._at(head_key(session_id)), session_id, value, OTHER_INDEX, found.key_id)
                if not self._sealer.migrate and _plain_entry(value, session_id):
                    raise EncryptionError(self._at(head_key(session_id)), session_id, value, NOT_ENCRYPTED, None)
                self._fits = self._fits or value is not None


def _plain_entry(value: object, session_id: str) -> Entry | None:
    """Return the entry of a head that is not encrypted; None of any other value."""
    try:
        return None if value is None else read_head(value, session_id).entry
    except InvalidDocumentError:
        return None
