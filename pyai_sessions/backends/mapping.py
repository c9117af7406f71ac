"""Any mapping: ``m[k]``, ``m[k] = v``, ``del m[k]`` and ``iter(m)``, and no more.

One turn a mapping makes a commit atomic among the threads of this process. The indexes are derived: built by one scan
at the first list, kept up by every commit since. Both belong to the mapping: two stores over one dict share them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from pyai_sessions.backends.derived import DerivedIndex
from pyai_sessions.backends.protocol import Backend, Position, pages_there
from pyai_sessions.documents import stamp_of_value
from pyai_sessions.drafts import Draft
from pyai_sessions.envelopes import entry_of
from pyai_sessions.errors import (
    SessionError,
    StorageClosedError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnreachableError,
    UnsuitableMappingError,
)
from pyai_sessions.heads import Entry, Run, SessionStatus
from pyai_sessions.keys import aside_key, head_key, page_prefix, session_of_key
from pyai_sessions.turns import Claim, Turn, current_frame, is_part_of
from pyai_sessions.values import is_bytes

AnyMapping = MutableMapping[Any, Any]


class _Shared:
    """What all stores over one mapping object share: whose turn it is, and its derived indexes."""

    def __init__(self, mapping: AnyMapping) -> None:
        self.mapping = mapping  # held, so that its id() stays taken
        self.turn = Turn()
        self.indexes: dict[str, DerivedIndex] = {}  # by the prefixes of namespaces
        self.unsure: set[str] = set()  # the indexes, by these, of which it is not known whether they hold

    def forget_unsure(self) -> None:
        """Forget the indexes that calls were changing when they failed or were cut off: the documents tell."""
        for under in list(self.unsure):
            self.indexes.pop(under, None)
            self.unsure.discard(under)


_shared: WeakValueDictionary[int, _Shared] = WeakValueDictionary()
_sharing = Turn()


def _share(mapping: AnyMapping) -> _Shared:
    found = _shared.get(id(mapping))
    if found is None:
        claim = Claim(current_frame())
        _sharing.take(claim, 10.0, "the mappings in use")
        try:
            found = _shared.get(id(mapping))
            if found is None:
                found = _shared[id(mapping)] = _Shared(mapping)
        finally:
            _sharing.give_back(claim)
    return found


_SPINS = 200
"""How often a thread that waits lets others run before it sleeps: one that sleeps would get its turn before it gets the
interpreter, and keep all others waiting meanwhile (16 threads then do half the work of one)."""


class _Turn(Claim):
    """One call's turn with a mapping; inside another of the same thread it is a part of that one.

    *changes* is the index that does not hold after an error, by its namespace's prefix: what was written is not known.
    """

    __slots__ = ("_changes", "_name", "_shared", "_timeout")

    def __init__(self, shared: _Shared, name: str, timeout: float, changes: str | None = None) -> None:
        super().__init__()
        self._shared = shared
        self._name = name
        self._timeout = timeout
        self._changes = changes

    def __enter__(self) -> None:
        shared = self._shared
        latest = shared.turn.latest
        frame = latest.frame
        if frame is None or latest.thread != self.thread or not is_part_of(frame):
            self.frame = current_frame(1)
            shared.turn.take(self, self._timeout, self._name, spins=_SPINS)
        if shared.unsure:
            shared.forget_unsure()
        if self._changes is not None:
            shared.unsure.add(self._changes)

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        shared = self._shared
        if err is not None and shared.unsure:
            shared.forget_unsure()
        if self._changes is not None:
            shared.unsure.discard(self._changes)
        if self.frame is not None:
            shared.turn.give_back(self)


class _Reported:
    """Turns what a mapping raises into a StorageError; our own errors pass."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if isinstance(err, Exception) and not isinstance(err, (SessionError, MemoryError)):
            raise storage_error(self._name, err) from err


class MappingBackend(Backend):
    """Sessions in any mapping.

    *shared* means that other processes write the same storage: lists then scan it each time, slow and right.
    *under* is what its keys begin with there. *documents* is where the text lies, when that is not *mapping* itself.
    """

    threads = 1  # one has the lock

    def __init__(
        self,
        mapping: AnyMapping,
        *,
        shared: bool,
        timeout: float,
        under: str = "",
        documents: AnyMapping | None = None,
        binary: bool | None = None,
    ) -> None:
        self._mapping = mapping if documents is None else documents
        self._name = f"{type(mapping).__module__}.{type(mapping).__qualname__}".replace("builtins.", "")
        self._reported = _Reported(self._name)
        self._shared = _share(mapping)
        self._under = under
        self._scan_always = shared
        self.settle = self.settle_forks = timeout if shared else 0.0
        self._timeout = timeout
        self._binary = binary
        self._flush = next((f for n in ("sync", "commit") if callable(f := getattr(mapping, n, None))), None)
        self._closed = False

    # Reading -----------------------------------------------------------------------------------------------------

    def read(self, session_id: str) -> object | None:  # noqa: D102 (the protocol documents it)
        with self._locked():
            return self._get(head_key(session_id))

    def read_many(self, session_ids: Sequence[str]) -> list[object | None]:  # noqa: D102
        with self._locked():
            return [self._get(head_key(each)) for each in session_ids]

    def read_pages(self, keys: Sequence[str]) -> list[object | None]:  # noqa: D102
        with self._locked():
            return [self._get(key) for key in keys]

    def all_keys(self) -> Iterator[object]:  # noqa: D102
        with self._locked():
            keys = self._all_keys()
        return iter(keys)

    def _all_keys(self) -> Sequence[object]:
        keys = [key.decode(errors="replace") if isinstance(key, bytes) else key for key in list(self._mapping)]
        start = len(self._under)
        return [key[start:] for key in keys if isinstance(key, str) and key.startswith(self._under)] if start else keys

    # Writing -----------------------------------------------------------------------------------------------------

    def commit(self, draft: Draft) -> bool:  # noqa: D102
        key = head_key(draft.session_id)
        with self._writing():
            stored = self._stamp(key)
            if stored != draft.stamp:
                if stored != draft.expected:
                    return False
                for page_key, page in draft.pages.items():
                    self._put(page_key, page)
                self._put(key, draft.head)
            for page_key in draft.garbage:
                self._delete(page_key)
            self._remove_leftovers(draft)
            self._flushed()
            if (index := self._known_index) is not None:
                index.put(draft.entry)
        return True

    def _remove_leftovers(self, draft: Draft) -> None:
        for start in draft.leftovers:
            generation, _, number = start.partition("/")
            for n in count(int(number)):
                key = f"{page_prefix(draft.session_id)}{generation}/{n}"
                if self._get(key) is None:
                    break
                self._delete(key)
                if self._get(key) is not None:  # a mapping that does not delete
                    break

    def remove(self, session_id: str, expected: str | None, runs: Sequence[Run], previous: Entry | None) -> bool:  # noqa: ARG002, D102
        key = head_key(session_id)
        with self._writing():
            if expected is not None and self._stamp(key) != expected:
                return False
            self._delete(key)
            for page_key in pages_there(self, runs):
                self._delete(page_key)
            self._flushed()
            if (index := self._known_index) is not None:
                index.discard(session_id)
        return True

    def remove_pages(self, session_id: str, keys: Sequence[str], expected: str | None) -> bool:  # noqa: D102
        with self._writing():
            if self._stamp(head_key(session_id)) != expected:
                return False
            for key in keys:
                self._delete(key)
            self._flushed()
        return True

    def refer(self, key: str, reference: bytes | None, time_left: int | None = None) -> None:  # noqa: ARG002, D102
        with self._writing():
            if reference is None:
                self._delete(key)
            else:
                self._put(key, reference)
                if (index := self._known_index) is not None:
                    index.references.setdefault(session_of_key(key) or "", set()).add(key)
            self._flushed()

    def references(self, owner: str) -> dict[str, object]:  # noqa: D102
        with self._locked():
            keys = self._index().references.get(owner, set[str]())
            found = {key: value for key in keys if (value := self._get(key)) is not None}
            keys &= found.keys()
        return found

    def set_aside(self, session_id: str, keys: Sequence[str], token: str) -> None:  # noqa: ARG002, D102
        with self._writing():
            for key in keys:
                value = self._get(key)
                if value is not None:
                    with self._reported:
                        self._mapping[self._under + aside_key(key, token)] = value
                    self._delete(key)
            self._flushed()

    def rewrite(self, changes: Sequence[tuple[str, object, bytes]]) -> list[bool]:  # noqa: D102
        with self._locked():
            same = [self._get(key) == old for key, old, _ in changes]
            for (key, _, document), each in zip(changes, same, strict=True):
                if each:
                    self._put(key, document)
            self._flushed()
        return same

    def exclusive(self) -> AbstractContextManager[object]:  # noqa: D102
        return self._locked()

    # Indexes -----------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, status: SessionStatus, user_id: str | None, after: Position | None, limit: int, *, newest_first: bool
    ) -> list[Position]:
        with self._locked():
            return self._index().order(status, user_id).after(after, limit, newest_first=newest_first)

    def count(self, status: SessionStatus, user_id: str | None, now: int) -> int:  # noqa: D102
        with self._locked():
            return self._index().count(status, user_id, now)

    def expiring(self, until: int, after: Position | None, limit: int) -> list[Position]:  # noqa: D102
        with self._locked():
            return self._index().expiring(until, after, limit)

    def entries(self) -> Iterator[Entry]:  # noqa: D102
        with self._locked():
            return iter(self._index().entries())

    def indexed(self, entries: Sequence[Entry]) -> list[bool]:  # noqa: D102
        with self._locked():
            index = self._index()
            return [index.entry(each.session_id) == each for each in entries]

    def index(self, session_id: str, expected: str | None, stale: Iterable[Entry], entry: Entry | None) -> bool:  # noqa: D102
        with self._writing():
            if self._stamp(head_key(session_id)) != expected:
                return False
            index = self._index()
            for each in stale:
                found = index.entry(each.session_id)
                if found and found._replace(expires=each.expires) == each:
                    index.discard(each.session_id)
            if entry:
                index.put(entry)
            return True

    def close(self) -> None:  # noqa: D102
        self._closed = True

    # Below: one mapping, one lock --------------------------------------------------------------------------------

    def _locked(self, changes: str | None = None) -> _Turn:
        if self._closed:
            raise StorageClosedError(self._name, "the store was closed")
        return _Turn(self._shared, self._name, self._timeout, changes)

    def _writing(self) -> _Turn:
        return self._locked(changes=self._under)

    @property
    def _known_index(self) -> DerivedIndex | None:
        return self._shared.indexes.get(self._under)

    def _index(self) -> DerivedIndex:
        index = self._known_index
        if index is None or self._scan_always:
            index = DerivedIndex()
            for name in self._all_keys():
                session_id = session_of_key(name)
                if session_id is None or not isinstance(name, str):
                    continue
                if name == head_key(session_id):
                    index.put(entry_of(self._get(name), session_id))
                elif name.startswith("forks/"):
                    index.references.setdefault(session_id, set()).add(name)
            self._shared.indexes[self._under] = index
        return index

    def _get(self, key: str) -> object | None:
        with self._reported:
            try:
                value: object = self._mapping[self._under + key]
            except KeyError:
                return None
            return value

    def _put(self, key: str, document: bytes) -> None:
        with self._reported:
            if self._binary is None:
                self._binary = self._takes_bytes()
            self._mapping[self._under + key] = document if self._binary else document.decode()

    def _delete(self, key: str) -> None:
        with self._reported, suppress(KeyError):
            del self._mapping[self._under + key]

    def _flushed(self) -> None:
        if self._flush:
            with self._reported:
                self._flush()

    def _stamp(self, key: str) -> str | None:
        return stamp_of_value(self._get(key))

    def _takes_bytes(self) -> bool:
        """Try a write, once: whether the mapping keeps text, or bytes alone; or neither, and is refused."""
        if isinstance(self._mapping, dict):
            return False
        key, text = "pyai_sessions/probe", "a probe; delete it"
        refusal: Exception | None = None
        for value in (text, text.encode()):
            try:
                self._mapping[self._under + key] = value
            except (TypeError, AttributeError, ValueError) as err:
                refusal = err
                continue
            kept = self._get(key)
            self._delete(key)
            if isinstance(kept, str) and kept == text:
                return False
            if is_bytes(kept) and bytes(kept) == text.encode():
                return True
        msg = f"{self._name} does not give back the text or bytes that were put in; a mapping that keeps text is needed"
        raise UnsuitableMappingError(msg) from refusal


def storage_error(where: str, err: Exception) -> StorageError:
    """Return the StorageError that says what an operating system's or a mapping's error means."""
    problem = type(err).__name__
    if isinstance(err, OSError):
        if err.errno:
            problem += f": {os.strerror(err.errno)}"
        if err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return StorageFullError(where, problem)
        if err.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return StorageReadOnlyError(where, problem)
        if isinstance(err, (ConnectionError, TimeoutError)):
            return StorageUnreachableError(where, problem)
    if isinstance(err, ValueError) and "closed" in str(err).lower():
        return StorageClosedError(where, problem)
    return StorageError(where, problem)
