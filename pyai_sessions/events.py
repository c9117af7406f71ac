"""Events: what happens in the calls of a manager, told to a function of the user's and to `logging`.

A manager with ``on_event=`` has its methods replaced by ones that tell when they start and end. One without it has none
of this. What happens inside, `note` logs, and tells the hook of the call that it happens in.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import sys
import time
from collections.abc import Callable
from contextvars import Context, ContextVar
from dataclasses import dataclass
from functools import wraps
from types import FrameType
from typing import Any

from pyai_sessions.errors import (
    InvalidValueError,
    SessionConflictError,
    StorageUnreachableError,
)

_LOGGER = logging.getLogger("pyai_sessions")
_LOGGER.addHandler(logging.NullHandler())

WAITED = 1.0
"""Seconds of waiting for other writers that are told."""

_LOGGED = {
    "merged": (logging.INFO, "merged a stale copy of session %(session_id)r with what other writers stored"),
    "conflict": (logging.WARNING, "did not save session %(session_id)r: what another writer stored cannot be merged"),
    "retried": (logging.INFO, "another writer was faster: try %(count)d of a write (session %(session_id)r)"),
    "waited": (logging.WARNING, "waited %(seconds).1f s for other writers of %(where)s"),
    "unreachable": (logging.ERROR, "%(where)s did not answer"),
    "purged": (logging.INFO, "removed %(count)d expired sessions"),
    "repaired": (logging.WARNING, "repaired %(count)d problems that verify found"),
}
"""The level and the text of each event that is logged, by its name."""

_UNTOLD = {"namespace"}
"""Methods of a manager that ask a storage for nothing."""

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """What happened in a call of a manager, as its ``on_event=`` is told. It holds no word of a conversation.

    Attributes:
        name: ``"started"`` and ``"ended"`` stand around each call. In between may come ``"merged"``, ``"conflict"``,
            ``"retried"``, ``"waited"``, ``"unreachable"``, ``"purged"``, ``"repaired"``, which are logged as well.
        method: The manager's method: ``"save"``.
        call: A number that all events of one call share, and no other call of this process.
        session_id: The session's id. None where the call is about no session, or about many.
        outcome: Of ``"ended"``: ``"ok"``, or the name of the exception's class.
        seconds: Of ``"ended"``: how long the call took. Of ``"waited"``: how long it waited.
        trips: How often the call has asked the storage until now. Calls that share a trip count it once each.
        bytes_read: How much of documents it has read until now.
        bytes_written: How much of documents it has written until now.
        count: Of ``"purged"`` and ``"repaired"``: how many sessions, or problems. Of ``"retried"``: which try comes.
        where: Of ``"waited"`` and ``"unreachable"``: the file or the server, without credentials.

    """

    name: str
    method: str
    call: int
    session_id: str | None = None
    outcome: str | None = None
    seconds: float | None = None
    trips: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    count: int | None = None
    where: str | None = None


OnEvent = Callable[[Event], object]
"""Is told what happens in the calls of a manager."""


class Hook:
    """A function of the user's that is told of events. That it raises fails no call; the first time is logged."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._has_failed = False

    def tell(self, event: Event) -> None:
        """Call the function with an event."""
        try:
            self._on_event(event)
        except Exception:
            if not self._has_failed:
                self._has_failed = True
                _LOGGER.exception("on_event= raised at %r of %r; it is called on, unlogged", event.name, event.method)


class Call:
    """A call of a manager that has a hook."""

    __slots__ = (
        "_before",
        "_began",
        "_hook",
        "_method",
        "_number",
        "_teller",
        "read",
        "session_id",
        "trips",
        "written",
    )

    def __init__(self, hook: Hook, method: str, session_id: str | None) -> None:
        self._hook = hook
        self._method = method
        self._number = next(_numbers)
        self._teller: FrameType | None = None
        self._before: Call | None = None
        self._began = time.perf_counter()
        self.session_id = session_id
        self.trips = self.read = self.written = 0

    def start(self) -> None:
        """Tell that it starts; what happens in this thread or task is then of this call."""
        self._before = _current.get()
        _current.set(self)
        self.tell("started")

    def end(self, outcome: str) -> None:
        """Tell that it has ended."""
        seconds = time.perf_counter() - self._began
        try:
            self.tell("ended", outcome=outcome, seconds=seconds)
        finally:
            _current.set(self._before)

    def tell(self, name: str, session_id: str | None = None, **fields: Any) -> None:
        """Tell the hook of an event."""
        self._teller = sys._getframe()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        event = Event(
            name=name,
            method=self._method,
            call=self._number,
            trips=self.trips,
            bytes_read=self.read,
            bytes_written=self.written,
            session_id=session_id or self.session_id,
            **fields,
        )
        self._hook.tell(event)

    def is_telling(self) -> bool:
        """Return whether the hook is at work: what it calls is not told to it, which would never end."""
        frame = self._teller
        if frame is None:
            return False
        try:
            frame.clear()  # refused while it runs; a flag might stay set when an exception cuts off the hook
        except RuntimeError:
            return True
        self._teller = None
        return False


_current: ContextVar[Call | None] = ContextVar("pyai_sessions call", default=None)
"""The call of a manager with a hook that this thread or task is in."""

current_call = _current.get


def watched_in(context: Context) -> Call | None:
    """Return the call, of a manager with a hook, that a context is of."""
    return context.get(_current)


def note(
    name: str,
    *,
    session_id: str | None = None,
    where: str | None = None,
    seconds: float | None = None,
    count: int | None = None,
) -> None:
    """Log what happened, and tell the hook of the call that it happened in."""
    level, text = _LOGGED[name]
    fields = {"session_id": session_id, "where": where, "seconds": seconds, "count": count}
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, text, fields, extra={"event": name, **fields})
    call = _current.get()
    if call is not None and not call.is_telling():
        call.tell(name, session_id, where=where, seconds=seconds, count=count)


def note_wait(where: str, began: float) -> None:
    """Note that a call has waited for other writers since *began*, by `time.monotonic`, if that was long."""
    seconds = time.monotonic() - began
    if seconds > WAITED:
        note("waited", where=where, seconds=seconds)


def note_error(error: BaseException) -> None:
    """Note an error that calls end with, if it is one of those that are told. It may come by more than once."""
    if not isinstance(error, (SessionConflictError, StorageUnreachableError)) or error.noted:
        return
    error.noted = True
    if isinstance(error, SessionConflictError):
        note("conflict", session_id=error.session_id)
    else:
        note("unreachable", where=error.where)


def watch(manager: object, on_event: OnEvent | None) -> bool:
    """Let the methods of a manager tell a hook when they start and end, if there is one; return whether there is.

    They are replaced in this object alone: a manager without a hook does not even ask whether it has one.
    """
    if on_event is None:
        return False
    if not callable(on_event) or inspect.iscoroutinefunction(on_event):
        kind = "an async function" if callable(on_event) else f"a {type(on_event).__name__}"
        raise InvalidValueError("on_event", f"is {kind}; it is a function that takes an Event, and is not awaited")
    hook = Hook(on_event)
    for name in dir(type(manager)):
        method = getattr(type(manager), name)
        if inspect.isfunction(method) and not name.startswith("_") and name not in _UNTOLD:
            setattr(manager, name, _watched(name, method.__get__(manager), hook))
    return True


def _watched(name: str, method: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    """Return a method of a manager that tells a hook when it starts and ends."""
    first = next(iter(inspect.signature(method).parameters), None)

    def begun(arguments: tuple[Any, ...], options: dict[str, Any]) -> Call | None:
        around = _current.get()
        if around is not None and around.is_telling():
            return None
        given = arguments[0] if arguments and first in ("session", "session_id") else options.get("session_id")
        given = options.get("session", given)
        found = getattr(given, "session_id", given)
        return Call(hook, name, found if isinstance(found, str) else None)

    if inspect.iscoroutinefunction(method):

        @wraps(method)
        async def awaited(*arguments: Any, **options: Any) -> Any:
            call = begun(arguments, options)
            if call is None:
                return await method(*arguments, **options)
            outcome = "ok"
            try:
                call.start()
                return _told_of(call, await method(*arguments, **options))
            except BaseException as err:
                outcome = type(err).__name__
                raise
            finally:
                call.end(outcome)

        return awaited

    @wraps(method)
    def called(*arguments: Any, **options: Any) -> Any:
        call = begun(arguments, options)
        if call is None:
            return method(*arguments, **options)
        outcome = "ok"
        try:
            call.start()
            return _told_of(call, method(*arguments, **options))
        except BaseException as err:
            outcome = type(err).__name__
            raise
        finally:
            call.end(outcome)

    return called


def _told_of(call: Call, result: Any) -> Any:
    """Return what a call returned, which may tell the id of the session that it made."""
    if call.session_id is None:
        found = getattr(result, "session_id", None)
        call.session_id = found if isinstance(found, str) else None
    return result
