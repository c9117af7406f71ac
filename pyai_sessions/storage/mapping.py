"""Any mapping as a storage: it needs ``m[k]``, ``m[k] = v``, ``del m[k]`` and ``iter(m)``, and nothing else.

The threads of this process take turns with the mapping, so a change is atomic among them. Lists are built from the
documents at the first scan, and updated by each change. Storages over one mapping share the turn and the lists.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from pyai_sessions.concurrency.turns import Claim, Turn, current_frame
from pyai_sessions.errors import (
    SessionError,
    StorageClosedError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnreachableError,
    UnsuitableMappingError,
)
from pyai_sessions.storage.derived import Lists, Places, start_of_place
from pyai_sessions.storage.names import NAMESPACES, split_namespace
from pyai_sessions.storage.protocol import Change, Derive, Listed, Position, Storage
from pyai_sessions.values.json import is_bytes

AnyMapping = MutableMapping[Any, Any]
Keys = dict[str, None]
"""Keys in the order in which the mapping has them."""


class _Shared:
    """What all storages over one mapping share."""

    def __init__(self, mapping: AnyMapping) -> None:
        self.mapping = mapping  # kept alive, so that no other mapping gets its id()
        self.turn = Turn()
        self.lists: dict[str, Lists] = {}  # by namespaces
        self.unlisted: dict[str, Keys] | None = None  # by namespaces: the keys of those whose lists are not built
        self.places = Places()
        self.changing = False  # whether a change is under way, or was interrupted

    def add(self, key: str) -> None:
        """Note that there is a document under *key*."""
        self.places.add(key)
        if self.unlisted is not None:
            under = split_namespace(key)[0]
            if under not in self.lists:
                self.unlisted.setdefault(under, {})[key] = None

    def discard(self, key: str) -> None:
        """Note that there is no document under *key*."""
        self.places.discard(key)
        if self.unlisted:
            self.unlisted.get(split_namespace(key)[0], {}).pop(key, None)

    def forget(self) -> None:
        """Forget lists and keys, which a change that failed or was interrupted left wrong. They are built anew."""
        self.lists.clear()
        self.unlisted = None
        self.places.forget()
        self.changing = False


_shared: WeakValueDictionary[int, _Shared] = WeakValueDictionary()
_sharing = Turn()


def _share(mapping: AnyMapping) -> _Shared:
    found = _shared.get(id(mapping))
    if found is None:
        claim = Claim(current_frame())
        _sharing.take(claim, 10.0, "the mappings in use")
        found = _shared.get(id(mapping))
        if found is None:
            found = _shared[id(mapping)] = _Shared(mapping)
        _sharing.give_back(claim)
    return found


_SPINS = 200
"""How often a waiting thread lets others run before it sleeps. A sleeping thread would be given the turn long before it
is given the interpreter, and all others would wait meanwhile: 16 threads would do half the work of one (measured)."""


class _Turn(Claim):
    """One call's turn with a mapping. Inside another turn of the same call, it is part of that one.

    If a call that *changes* documents fails, lists and keys are forgotten: some documents may have changed. With
    *reports*, what the mapping raises becomes a StorageError.
    """

    __slots__ = ("_changes", "_name", "_reports", "_shared", "_timeout")

    def __init__(self, shared: _Shared, name: str, timeout: float, *, changes: bool, reports: bool) -> None:
        super().__init__()
        self._shared = shared
        self._name = name
        self._timeout = timeout
        self._changes = changes
        self._reports = reports

    def __enter__(self) -> None:
        shared = self._shared
        if not shared.turn.is_held_by_caller(self._name):
            self.frame = current_frame(1)
            shared.turn.take(self, self._timeout, self._name, spins=_SPINS)
        if shared.changing:  # an interrupted call could not forget
            shared.forget()
        if self._changes:
            shared.changing = True

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        shared = self._shared
        if self._changes:
            if err is not None:
                shared.forget()
            shared.changing = False
        if self.frame is not None:
            shared.turn.give_back(self)
        if self._reports and isinstance(err, Exception) and not isinstance(err, (SessionError, MemoryError)):
            raise storage_error(self._name, err) from err


class MappingStorage(Storage):
    """Documents in any mapping.

    Args:
        mapping: The mapping. All storages over it take turns.
        derive: Returns the entries of lists that follow from a document.
        shared: Whether other processes write the same items. Lists are then built anew at each call, which is slow.
        timeout: Seconds to wait for other threads.
        documents: The mapping that holds the documents, if it is not *mapping* itself.
        binary: Whether values are bytes (True) or text (False); None: the first write tries.

    """

    threads = 1  # only one has the turn
    ordered = False

    def __init__(
        self,
        mapping: AnyMapping,
        *,
        derive: Derive,
        shared: bool = False,
        timeout: float = 10.0,
        documents: AnyMapping | None = None,
        binary: bool | None = None,
    ) -> None:
        self._mapping = mapping if documents is None else documents
        self._derive = derive
        self._name = f"{type(mapping).__module__}.{type(mapping).__qualname__}".replace("builtins.", "")
        self._shared = _share(mapping)
        self._others_write = shared
        self.settle = timeout if shared else 0.0
        self._timeout = timeout
        self._binary = binary
        self._flush = next((f for n in ("sync", "commit") if callable(f := getattr(mapping, n, None))), None)
        self._closed = False

    # Documents ---------------------------------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> dict[str, object]:  # noqa: D102 (the protocol documents it)
        found: dict[str, object] = {}
        with self._turn():
            for key in keys:
                try:
                    value = self._mapping[key]
                except KeyError:
                    continue
                if value is not None and key[-1:] != "/":
                    found[key] = value
        return found

    def write(self, changes: Sequence[Change]) -> list[bool]:  # noqa: D102
        with self._turn(changes=True):
            applied = [self._apply(each) for each in changes]
            if self._flush and any(applied):  # also if they were applied before: the flush may have failed then
                self._flush()
        return applied

    def _apply(self, change: Change) -> bool:
        answer = change.answer(self._get)
        if answer is not None:
            return answer
        for key, document in change.put:
            self._put(key, document)
        for key in change.drop:
            for each in self._below(key) if key.endswith("/") else (key,):
                self._delete(each)
        if self._shared.lists:
            for name, member, _, new in change.lists:
                lists = self._shared.lists.get(split_namespace(name)[0])
                if lists is not None:
                    lists.move(name, member, new)
        return True

    def keys(self, prefix: str = "") -> Iterator[str]:  # noqa: D102
        with self._turn():
            if start_of_place(prefix):
                return iter(self._below(prefix))
            self._shared.places.forget()  # others may have written; this walk is for all keys anyway
            return iter([key for key in self._all_keys() if key.startswith(prefix)])

    def _below(self, prefix: str) -> Collection[str]:
        """Return the keys that begin with *prefix*, which has a kind and a place."""
        if self._others_write:
            return [key for key in self._all_keys() if key.startswith(prefix)]
        return self._shared.places.keys(prefix, self._all_keys)

    def _all_keys(self) -> list[str]:
        keys = list(self._mapping)
        texts = [key.decode(errors="replace") if isinstance(key, bytes) else key for key in keys]
        return [key for key in texts if isinstance(key, str)]

    def exclusive(self) -> AbstractContextManager[object]:  # noqa: D102
        return self._turn(reports=False)

    # Lists -------------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, name: str, after: Position | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[Position]:
        with self._turn():
            return self._lists_of(name).scan(name, after, limit, newest_first=newest_first)

    def count(self, name: str) -> int:  # noqa: D102
        with self._turn():
            return self._lists_of(name).count(name)

    def listings(  # noqa: D102
        self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = ""
    ) -> Iterator[Listed]:
        with self._turn():
            if of is None:
                namespaces = self._namespaces(prefix)
                known = self._lists(namespaces)
                return iter([each for under in namespaces for each in known[under].listings(prefix)])
            known = self._lists({split_namespace(name)[0] for name, _ in of})
            found = [(*pair, known[split_namespace(pair[0])[0]].score(*pair)) for pair in of]
            return iter([(name, member, score) for name, member, score in found if score is not None])

    def _namespaces(self, prefix: str) -> set[str]:
        """Return the namespaces of the lists whose names begin with *prefix*."""
        under = split_namespace(prefix)[0]
        if under or not (NAMESPACES.startswith(prefix) or prefix.startswith(NAMESPACES)):
            return {under}
        return {split_namespace(key)[0] for key in self._all_keys()} | self._shared.lists.keys()

    def _lists_of(self, name: str) -> Lists:
        under = split_namespace(name)[0]
        return self._lists({under})[under]

    def _lists(self, namespaces: set[str]) -> dict[str, Lists]:
        """Return the lists of namespaces. Those that are not known yet are built from the documents that there are."""
        known = dict[str, Lists]() if self._others_write else self._shared.lists
        missing = namespaces - known.keys()
        if not missing:
            return known
        unlisted = None if self._others_write else self._shared.unlisted
        if unlisted is None:
            unlisted = dict[str, Keys]()
            for key in self._all_keys():
                unlisted.setdefault(split_namespace(key)[0], {})[key] = None
            if not self._others_write:
                self._shared.unlisted = unlisted  # only when it is complete: the walk may be interrupted
        for under in missing:
            lists = Lists()
            for key in unlisted.get(under, ()):
                for name, member, score in self._derive(key, partial(self._get, key)):
                    lists.move(name, member, score)
            known[under] = lists
            unlisted.pop(under, None)
        return known

    def close(self) -> None:  # noqa: D102
        self._closed = True

    # Below: one mapping, one turn --------------------------------------------------------------------------------

    def _turn(self, *, changes: bool = False, reports: bool = True) -> _Turn:
        if self._closed:
            raise StorageClosedError(self._name, "the store was closed")
        return _Turn(self._shared, self._name, self._timeout, changes=changes, reports=reports)

    def _get(self, key: str) -> object | None:
        try:
            value: object = self._mapping[key]
        except KeyError:
            return None
        return value

    def _put(self, key: str, document: object) -> None:
        if type(document) is bytes:
            if self._binary is None:
                self._binary = self._takes_bytes()
            if not self._binary:
                with suppress(UnicodeDecodeError):  # not ours: it is written as it was read
                    document = document.decode()
        self._mapping[key] = document
        self._shared.add(key)

    def _delete(self, key: str) -> None:
        with suppress(KeyError):
            del self._mapping[key]
        self._shared.discard(key)

    def _takes_bytes(self) -> bool:
        """Return whether the mapping takes bytes, or text, by writing both; raise if it keeps neither as it was."""
        if isinstance(self._mapping, dict):
            return False
        key, text = "pyai_sessions/probe", "a probe; delete it"
        refusal: Exception | None = None
        for value in (text, text.encode()):
            try:
                self._mapping[key] = value
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
    """Return the StorageError for an exception that a mapping raised."""
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
    if isinstance(err, (ValueError, OSError)) and "closed" in str(err).lower():  # dbm's errors are OSErrors
        return StorageClosedError(where, problem)
    return StorageError(where, problem)
