"""Attempts: writes that read, compare and commit, repeated until no other writer is faster."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from pyai_sessions.errors import StorageLockedError
from pyai_sessions.events import note
from pyai_sessions.sessions.backend import Backend

T = TypeVar("T")

_FEWEST, _FREE_TRIES = 2, 10
"""Tries before a writer takes turns with other writers: the fewest, and the most. A turn makes all others wait: eight
threads that save one session on Valkey store 130 turns a second with 2 free tries, and 290 with 10 (measured)."""

_FREE_PART = 0.1
"""The part of the timeout after which a writer whose tries take long is out of free ones."""


class Attempts:
    """The tries of a write that reads, compares and commits: repeated with short pauses until the timeout.

    ``exclusive()`` keeps other writers out of a try if the storage can do that. If not, other writers may be faster at
    each try; so after ten tries, or a tenth of the timeout, a writer takes turns with them.
    """

    def __init__(self, backend: Backend, session_id: str, whose: str = "") -> None:
        self._backend = backend
        self._session_id = session_id
        self._whose = whose or f"session {session_id!r}"
        self._tries = 0
        self._free_until = 0.0

    def __iter__(self) -> Iterator[None]:
        timeout = self._backend.timeout
        began = time.monotonic()
        deadline, self._free_until = began + timeout, began + _FREE_PART * timeout
        pause = 0.0005
        while True:
            self._tries += 1
            yield None
            if time.monotonic() > deadline:
                problem = f"other writers changed it at every try for {timeout} s"
                raise StorageLockedError(self._whose, problem)
            note("retried", session_id=self._session_id or None, count=self._tries + 1)
            time.sleep(random.uniform(0, pause))  # noqa: S311 (it keeps competing writers apart, not secrets)
            pause = min(pause * 2, 0.05)

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep other writers of the session out; leaving the block commits."""
        most = _FREE_TRIES if time.monotonic() < self._free_until else _FEWEST
        if self._tries <= most or not self._session_id:
            return self._backend.storage.exclusive()
        return self._in_turn()

    @contextmanager
    def _in_turn(self) -> Generator[None, None, None]:
        with self._backend.turn(self._session_id), self._backend.storage.exclusive():
            yield


def until_done(backend: Backend, session_id: str, attempt: Callable[[], T | None], what: str = "") -> T:
    """Call *attempt*, which reads, compares and writes, until it returns a result; None means another writer was first.

    Other writers are kept out of each attempt, where the storage can do that. An error names *what* is written; by
    default the session.

    Raises:
        StorageLockedError: Another writer was first until the timeout.

    """
    attempts = Attempts(backend, session_id, what)
    tries = iter(attempts)
    while True:
        next(tries)
        with attempts.exclusive():
            result = attempt()
        if result is not None:  # only now: leaving the block commits
            return result
