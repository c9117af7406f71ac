"""The table of operations, and what a test must know of each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pyai_sessions import SessionManager


@dataclass(frozen=True)
class Operation:
    """An operation that changes what is stored.

    Attributes:
        load: Returns, of a manager, the call that is to be interrupted.
        arrange: What is stored before, beside the world of `store_world`.
        mends: Whether lists and documents are wrong until it is done.
        returns: Whether it returns the same, though part of it, or all, was done before by a call that raised.
        stepwise: Whether a session changes in several steps, each text in one.
        grows: Whether a message is stored before its text is whole.
        together: Whether sessions and states change in one step, where the storage has transactions.
        kept: Texts that must lie in the storage afterwards, whatever happens.
        rings: The keys with which the world is stored, and those with which the operation opens it, if it is encrypted.

    """

    load: Callable[[SessionManager], Callable[[], Any]]
    arrange: Callable[[SessionManager], object] = lambda _: None
    mends: bool = False
    returns: bool = False
    stepwise: bool = False
    grows: bool = False
    together: bool = False
    kept: tuple[str, ...] = ()
    rings: tuple[dict[str, bytes] | None, dict[str, bytes] | None] = field(default=(None, None))


OPERATIONS: dict[str, Operation] = {}


def operation(arrange=lambda _: None, **options):
    """Add a function to the table under its name."""

    def enter(load):
        OPERATIONS[load.__name__.replace("_", " ")] = Operation(load, arrange, **options)
        return load

    return enter
