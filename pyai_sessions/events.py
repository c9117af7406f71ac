"""Events: what happens in the calls of a manager, reported to a function of yours and to `logging`.

A manager with ``on_event=`` has wrapped methods, which report when they start and end; other managers pay nothing. What
happens inside a call is reported by `note`: to the log, and to the function of the manager.
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
"""Seconds of waiting for other writers after which a wait is reported."""

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
"""Methods of a manager that do not use the storage."""

_STORING = ("store", "finish", "cut_off")
"""Methods of what a manager's `stream` returns: each stores the message as it is then."""

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """What happened in a call of a manager: the argument of its ``on_event=``. It contains no text of a conversation.

    Attributes:
        name: ``"started"`` and ``"ended"`` surround each call. Between them there may be ``"merged"``, ``"conflict"``,
            ``"retried"``, ``"waited"``, ``"unreachable"``, ``"purged"``, ``"repaired"``, which are logged too.
        method: The manager's method: ``"save"``.
        call: The number of the call, different for each call of this process.
        session_id: The session's id. None if the call concerns no session, or many.
        outcome: For ``"ended"``: ``"ok"``, or the name of the exception's class.
        seconds: For ``"ended"``: how long the call took. For ``"waited"``: how long it waited.
        trips: How many round trips to the storage the call has made so far. A shared trip counts for each of its calls.
        bytes_read: How many bytes of documents it has read so far.
        bytes_written: How many bytes of documents it has written so far.
        count: For ``"purged"`` and ``"repaired"``: how many sessions, or problems. For ``"retried"``: the number of the
            next try.
        where: For ``"waited"`` and ``"unreachable"``: the file or the server, without credentials.

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
"""A function that is called with each event."""


class Hook:
    """The user's function for events. If it raises, the call continues; the first exception is logged."""

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
                _LOGGER.exception(
                    "on_event= raised at %r of %r; further exceptions of it are not logged", event.name, event.method
                )


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
        """Report the start. Until the end, what happens in this thread or task belongs to this call."""
        self._before = _current.get()
        _current.set(self)
        self.tell("started")

    def end(self, outcome: str) -> None:
        """Report the end."""
        seconds = time.perf_counter() - self._began
        try:
            self.tell("ended", outcome=outcome, seconds=seconds)
        finally:
            _current.set(self._before)

    def tell(self, name: str, session_id: str | None = None, **fields: Any) -> None:
        """Call the hook with an event of this call."""
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
        """Return whether the hook is running. Its own calls are not reported to it, since that would never end."""
        frame = self._teller
        if frame is None:
            return False
        try:
            frame.clear()  # refused while it runs; a flag could stay set if an exception interrupts the hook
        except RuntimeError:
            return True
        self._teller = None
        return False


_current: ContextVar[Call | None] = ContextVar("pyai_sessions call", default=None)
"""The call that this thread or task is in, if its manager has a hook."""

current_call = _current.get


def watched_in(context: Context) -> Call | None:
    """Return the call that a context belongs to, if its manager has a hook."""
    return context.get(_current)


def note(
    name: str,
    *,
    session_id: str | None = None,
    where: str | None = None,
    seconds: float | None = None,
    count: int | None = None,
) -> None:
    """Log an event, and call the hook of the call in which it happened."""
    level, text = _LOGGED[name]
    fields = {"session_id": session_id, "where": where, "seconds": seconds, "count": count}
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, text, fields, extra={"event": name, **fields})
    call = _current.get()
    if call is not None and not call.is_telling():
        call.tell(name, session_id, where=where, seconds=seconds, count=count)


def note_wait(where: str, began: float) -> None:
    """Report that a call has waited for other writers since *began*, by `time.monotonic`, if that was long."""
    seconds = time.monotonic() - began
    if seconds > WAITED:
        note("waited", where=where, seconds=seconds)


def note_error(error: BaseException) -> None:
    """Report a conflict or an unreachable storage, once, though the error may pass here several times."""
    if not isinstance(error, (SessionConflictError, StorageUnreachableError)) or error.noted:
        return
    error.noted = True
    if isinstance(error, SessionConflictError):
        note("conflict", session_id=error.session_id)
    else:
        note("unreachable", where=error.where)


def watch(manager: object, on_event: OnEvent | None) -> bool:
    """Wrap the methods of a manager so that they report their start and end, if there is a hook; return whether.

    Only the methods of this object are wrapped: a manager without a hook has no check at all.
    """
    if on_event is None:
        return False
    if not callable(on_event) or inspect.iscoroutinefunction(on_event):
        kind = "an async function" if callable(on_event) else f"a {type(on_event).__name__}"
        raise InvalidValueError("on_event", f"is {kind}; it is a plain function that takes an Event")
    hook = Hook(on_event)
    for name in dir(type(manager)):
        method = getattr(type(manager), name)
        if inspect.isfunction(method) and not name.startswith("_") and name not in _UNTOLD:
            wrap = _watched_stream if name == "stream" else _watched
            setattr(manager, name, wrap(name, method.__get__(manager), hook))
    return True


def _watched_stream(name: str, method: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    """Return the `stream` of a manager. It uses no storage itself: each time its result stores is a call of its own."""

    @wraps(method)
    def stream(*arguments: Any, **options: Any) -> Any:
        made = method(*arguments, **options)
        for each in _STORING:
            setattr(made, each, _watched(name, getattr(made, each), hook, made.session_id))
        return made

    return stream


def _watched(name: str, method: Callable[..., Any], hook: Hook, session_id: str | None = None) -> Callable[..., Any]:
    """Return a method that reports its start and end to a hook, as the call *name* of a manager."""
    first = next(iter(inspect.signature(method).parameters), None)

    def begun(arguments: tuple[Any, ...], options: dict[str, Any]) -> Call | None:
        around = _current.get()
        if around is not None and around.is_telling():
            return None
        given = (
            arguments[0] if arguments and first in ("session", "session_id") else options.get("session_id", session_id)
        )
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
    """Return the result of a call, and learn the session's id from it, if the arguments did not have it."""
    if call.session_id is None:
        found = getattr(result, "session_id", None)
        call.session_id = found if isinstance(found, str) else None
    return result
