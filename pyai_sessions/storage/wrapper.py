"""`Wrapper`: what storages around another storage share."""

from __future__ import annotations

from contextlib import AbstractContextManager

from pyai_sessions.storage.protocol import Storage


class Wrapper(Storage):
    """A storage around another one, which it describes as that one describes itself. Closing it closes the other."""

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
