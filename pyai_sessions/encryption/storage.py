"""`EncryptedStorage`: encrypts the documents of any other storage.

The inner storage compares, lists and expires documents as usual: an encrypted head begins with its revision, and shows
its index entries (see `pyai_sessions.documents.listed`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice

from pyai_sessions.documents.envelopes import read_envelope, text_of
from pyai_sessions.documents.keys import is_state
from pyai_sessions.documents.reading import is_stamp
from pyai_sessions.encryption.lists import HashedNames, check_fit
from pyai_sessions.encryption.sealing import Sealer, shows_stamp
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.storage.names import split_namespace
from pyai_sessions.storage.protocol import Change, Listed, Position, Storage
from pyai_sessions.storage.wrappers import Wrapper


class EncryptedStorage(Wrapper):
    """A storage that encrypts documents before another one stores them, and hashes the users in list names.

    A document is bound to its whole key, so *inner* must be a whole storage: a `Namespaced` goes around this one. Names
    that are hashed already, as `scan` and `listings` return them, are accepted.

    In place of a document that cannot be decrypted, `read` returns the InvalidDocumentError that says why. If that
    error is put under a key, the encrypted document is stored there unchanged.
    """

    def __init__(self, inner: Storage, sealer: Sealer) -> None:
        super().__init__(inner)
        self._sealer = sealer
        self.names = HashedNames(sealer)
        self._fitting: set[str] = set()  # prefixes of namespaces whose documents fit the ring

    # Documents ---------------------------------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> dict[str, object]:  # noqa: D102 (the protocol documents it)
        found = self._inner.read(keys)
        for key in keys:
            if key not in found and is_state(split_namespace(key)[1]):
                self._check_fit(key)  # with another ring, the state would be under another key
        return {key: self._sealer.open(key, value) for key, value in found.items()}

    def keys(self, prefix: str = "") -> Iterator[str]:  # noqa: D102
        return self._inner.keys(prefix)

    def write(self, changes: Sequence[Change]) -> list[bool]:  # noqa: D102
        unsure: list[str] = []
        for each in changes:
            self._check_fit(_any_name(each))
            unsure += [key for key, start in _starts(each) if start and not _shows(key, start)]
        if unsure:
            stored = self._inner.read(unsure)
            changes = [self._expecting(each, stored) for each in changes]
        return self._inner.write([self._encrypted(each) for each in changes])

    def _expecting(self, change: Change, stored: Mapping[str, object]) -> Change:
        """Return a change that expects the *stored* encrypted documents, if their texts begin as expected."""
        expect: list[tuple[str, str | None]] = []
        for key, start in change.expect:
            begins = self._stored_start(key, start, stored)
            never = start is not None and begins is None
            expect += [(key, ""), (key, None)] if never else [(key, begins)]
        done = change.done and self._stored_start(change.expect[0][0], change.done, stored)
        return change._replace(expect=expect, done=done)

    def _stored_start(self, key: str, start: str | None, stored: Mapping[str, object]) -> str | None:
        """Return the beginning of the stored document if its text begins with *start*; None if it does not."""
        if not start or _shows(key, start):
            return start
        value = stored.get(key)
        found, opened = read_envelope(value), self._sealer.open(key, value)
        if found is None or isinstance(opened, InvalidDocumentError):
            return start  # it is not encrypted, or cannot be decrypted: compare it as it is stored
        text = text_of(opened)
        same = text is not None and text.startswith(start.encode("utf-8", "surrogatepass"))
        return found.start() if same else None

    def _encrypted(self, change: Change) -> Change:
        return change._replace(
            put=[(key, self._to_store(key, value)) for key, value in change.put],
            lists=self.names.listings(change.lists),
        )

    def _to_store(self, key: str, value: object) -> object:
        if isinstance(value, InvalidDocumentError):
            return value.document
        text = text_of(value)
        return value if text is None else self._sealer.seal(key, text)

    # Lists -------------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, name: str, after: Position | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[Position]:
        found = [self._inner.scan(each, after, limit, newest_first=newest_first) for each in self._names(name)]
        if len(found) == 1:
            return found[0]
        merged = groupby(heapq.merge(*found, reverse=newest_first))
        return [position for position, _ in islice(merged, limit)]

    def count(self, name: str) -> int:  # noqa: D102
        return sum(map(self._inner.count, self._names(name)))

    def listings(self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = "") -> Iterator[Listed]:
        """Iterate over list entries with hashed users; with *of*, over those entries, by the names in *of*."""
        if of is None:
            names = self._names(prefix) if prefix.endswith("/") else [prefix]
            return (each for name in names for each in self._inner.listings(prefix=name))
        asked: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for name, member in of:
            for each in [(n, m) for n in self._names(name) for m in self.names.members(name, member)]:
                asked.setdefault(each, set()).add((name, member))
        found = self._inner.listings(list(asked))
        return ((*each, score) for name, member, score in found for each in asked[name, member])

    def _names(self, name: str) -> list[str]:
        names = self.names.names(name)
        if names != [name]:
            self._check_fit(name)
        return names

    def _check_fit(self, name: str) -> None:
        """Raise unless the ring fits the namespace of *name*. Checks each namespace once."""
        under = split_namespace(name)[0]
        if under not in self._fitting and check_fit(self._inner, self._sealer, under):
            self._fitting.add(under)


def _any_name(change: Change) -> str:
    """Return a key or list name of a change: all have the same namespace."""
    for each in (change.expect, change.put, change.lists):
        if each:
            return each[0][0]
    return change.drop[0] if change.drop else ""


def _starts(change: Change) -> list[tuple[str, str | None]]:
    """Return the keys whose documents a change compares, with the beginnings that it expects."""
    return [*change.expect, *[(key, change.done) for key, _ in change.expect[:1]]]


def _shows(key: str, start: str) -> bool:
    """Return whether an encrypted document begins with *start* exactly if its text does."""
    return is_stamp(start) and shows_stamp(key)
