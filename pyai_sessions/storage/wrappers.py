"""Storages around another storage: `Wrapper`, their base; `Counted`, for events; `Namespaced`, one namespace of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from pyai_sessions.events import current_call
from pyai_sessions.storage.names import split_namespace
from pyai_sessions.storage.protocol import Change, Listed, Position, Storage


class Wrapper(Storage):
    """A storage around another one, with the same attributes. Closing it closes the other."""

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self.threads = inner.threads
        self.together = inner.together
        self.ordered = inner.ordered
        self.forgets = inner.forgets
        self.apart = inner.apart
        self.settle = inner.settle
        self.paged = inner.paged
        self.padded = inner.padded

    def exclusive(self) -> AbstractContextManager[object]:  # noqa: D102 (the protocol documents it)
        return self._inner.exclusive()

    def mend(self) -> None:  # noqa: D102
        self._inner.mend()

    def close(self) -> None:  # noqa: D102
        self._inner.close()


class Counted(Wrapper):
    """A storage that counts the round trips and bytes of a manager's call, if the manager has an ``on_event=``."""

    def read(self, keys: Sequence[str]) -> dict[str, object]:  # noqa: D102 (the protocol documents it)
        found, call = self._inner.read(keys), current_call()
        if call is not None:
            call.trips += 1
            call.read += sum(map(size_of, found.values()))
        return found

    def write(self, changes: Sequence[Change]) -> list[bool]:  # noqa: D102
        call = current_call()
        if call is not None:
            call.trips += 1
            call.written += sum(size_of(document) for each in changes for _, document in each.put)
        return self._inner.write(changes)

    def keys(self, prefix: str = "") -> Iterator[str]:  # noqa: D102
        return self._asked().keys(prefix)

    def scan(  # noqa: D102
        self, name: str, after: Position | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[Position]:
        return self._asked().scan(name, after, limit, newest_first=newest_first)

    def count(self, name: str) -> int:  # noqa: D102
        return self._asked().count(name)

    def listings(self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = "") -> Iterator[Listed]:  # noqa: D102
        return self._asked().listings(of, prefix=prefix)

    def _asked(self) -> Storage:
        call = current_call()
        if call is not None:
            call.trips += 1
        return self._inner


def size_of(document: object) -> int:
    """Return the size of a document; 0 if it is not text."""
    return len(document) if isinstance(document, (bytes, str)) else 0


class Namespaced(Wrapper):
    """One part of a storage: a namespace, or what is in no namespace.

    Args:
        inner: The whole storage. Its keys, and the names of its lists, begin with their namespace.
        under: The namespace, as `split_namespace` returns it, or "". Keys and names here are without it.

    Notes:
        In no namespace, `keys` and `listings` walk through all namespaces, and leave them out: no prefix tells them
        apart.

    """

    def __init__(self, inner: Storage, under: str) -> None:
        super().__init__(inner)
        self._under = under

    def read(self, keys: Sequence[str]) -> dict[str, object]:  # noqa: D102 (the protocol documents it)
        under = self._under
        if not under:
            return self._inner.read(keys)
        start = len(under)
        return {key[start:]: value for key, value in self._inner.read([under + key for key in keys]).items()}

    def write(self, changes: Sequence[Change]) -> list[bool]:  # noqa: D102
        return self._inner.write([self.moved(each) for each in changes] if self._under else changes)

    def moved(self, change: Change) -> Change:
        """Return a change of this part as a change of the whole storage."""
        under = self._under
        return Change(
            expect=[(under + key, begins) for key, begins in change.expect],
            done=change.done,
            put=[(under + key, document) for key, document in change.put],
            drop=[under + key for key in change.drop],
            lists=[each._replace(list=under + each.list) for each in change.lists],
            lives=change.lives,
        )

    def keys(self, prefix: str = "") -> Iterator[str]:  # noqa: D102
        start = len(self._under)
        return (key[start:] for key in self._inner.keys(self._under + prefix) if self._has(key))

    def scan(  # noqa: D102
        self, name: str, after: Position | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[Position]:
        return self._inner.scan(self._under + name, after, limit, newest_first=newest_first)

    def count(self, name: str) -> int:  # noqa: D102
        return self._inner.count(self._under + name)

    def listings(self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = "") -> Iterator[Listed]:  # noqa: D102
        under = self._under
        if of is not None:
            of = [(under + name, member) for name, member in of]
        found = self._inner.listings(of, prefix=under + prefix)
        return ((name[len(under) :], member, score) for name, member, score in found if self._has(name))

    def _has(self, name: str) -> bool:
        """Return whether a key, or the name of a list, of the whole storage belongs to this part."""
        return bool(self._under) or not split_namespace(name)[0]
