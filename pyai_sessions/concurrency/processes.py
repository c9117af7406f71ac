"""Which process this is, and what belongs to one alone: connections and threads are of no use in another."""

from __future__ import annotations

import os
from typing import NoReturn

from pyai_sessions.errors import UnsupportedOperationError


class _Process:
    number = os.getpid()


def _renew() -> None:
    _Process.number = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def process_id() -> int:
    """Return the number of this process, without the call of the system that costs a save a hundredth."""
    return _Process.number


class OfOneProcess:
    """An object that can be neither pickled nor copied: it holds connections, locks or keys."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        msg = (
            f"a {type(self).__name__} can be neither pickled nor copied, since its connections belong to this process; "
            "open the store in the worker process: send it the path or url alone"
        )
        raise UnsupportedOperationError(msg)

    def __copy__(self) -> NoReturn:  # a base class may have another
        self.__reduce_ex__(None)
