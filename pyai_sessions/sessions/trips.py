"""Calls that can share their trips to a storage. Each is a generator: it yields what it asks, and is sent the answer.

So a call is written once. A sync caller makes it alone; a thread that works for many tasks makes many calls at a time,
and asks for all of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial, wraps
from typing import Any, Concatenate, Literal, Protocol, TypeVar, cast

from typing_extensions import ParamSpec

from pyai_sessions.errors import StorageUnreachableError
from pyai_sessions.sessions.backend import Backend

P = ParamSpec("P")
T = TypeVar("T")

Ask = tuple[Literal["read", "read_session", "read_pages", "commit"], Any] | None
"""A method of a backend, and what it is given. None asks for nothing: what the call does from here on takes trips or
sleeps of its own, and is to keep no other waiting."""
Asking = Generator[Ask, Any, T]


class Trips:
    """Trips to a backend, for one call or for many."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.together = backend.together
        self.mend = backend.mend
        self._many: dict[str, Callable[[list[Any]], list[Any]]] = {
            "read": backend.read_many,
            "read_session": backend.read_sessions,
            "read_pages": self._pages,
            "commit": backend.commit_many,
        }

    def alone(self, call: Asking[T]) -> T:
        """Make a call, or what is left of it, and return its result."""
        backend = self._backend
        try:
            ask = next(call)
            while True:
                try:
                    answer = None if ask is None else getattr(backend, ask[0])(ask[1])
                except BaseException as err:  # noqa: BLE001, PERF203 (the call raises it)
                    ask = call.throw(err)
                else:
                    ask = call.send(answer)
        except StopIteration as ended:
            return cast("T", ended.value)

    def answers(self, asks: Sequence[Ask]) -> list[Any]:
        """Return the answers that calls wait for, in as few trips as can be; an exception is for its call to raise.

        What fails takes no other along, unless the storage is gone: each would wait for it anew.
        """
        found: dict[int, Any] = {}
        for method, many in self._many.items():
            given = {n: ask[1] for n, ask in enumerate(asks) if ask and ask[0] == method}
            one = getattr(self._backend, method)
            try:
                found.update(zip(given, _answered(list(given.values()), one, many), strict=True))
            except StorageUnreachableError as err:
                return [found.get(n, err) for n in range(len(asks))]
        return [found.get(n) for n in range(len(asks))]

    def _pages(self, asks: list[list[str]]) -> list[list[object | None]]:
        values = iter(self._backend.read_pages([key for keys in asks for key in keys]))
        return [[next(values) for _ in keys] for keys in asks]


def _answered(given: list[Any], one: Callable[[Any], Any], many: Callable[[list[Any]], list[Any]]) -> Iterable[Any]:
    if len(given) > 1:
        try:
            return many(given)
        except StorageUnreachableError:
            raise
        except BaseException:  # noqa: BLE001, S110 (perhaps for one of them: each is asked for alone)
            pass
    return (_outcome(one, each) for each in given)


def _outcome(one: Callable[[Any], Any], given: Any) -> Any:
    try:
        return one(given)
    except StorageUnreachableError:
        raise
    except BaseException as err:  # noqa: BLE001 (its call raises it)
        return err


class _HasTrips(Protocol):
    @property
    def trips(self) -> Trips: ...


S = TypeVar("S", bound=_HasTrips)


def sharing(call: Callable[Concatenate[S, P], Asking[T]]) -> Callable[Concatenate[S, P], T]:
    """Return the method that makes a call alone; `asked` finds the call again."""

    @wraps(call)
    def method(self: S, /, *arguments: P.args, **options: P.kwargs) -> T:
        try:
            return self.trips.alone(call(self, *arguments, **options))
        except BaseException:
            self.trips.mend()
            raise

    cast("Any", method).asking = call
    return method


def mending(call: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Return a method that, when it is cut off, leaves nothing open that others wait for.

    The blocks in it end what they began. But an exception from outside can come while one of them does that.
    """

    @wraps(call)
    def method(self: S, /, *arguments: P.args, **options: P.kwargs) -> T:
        try:
            return call(self, *arguments, **options)
        except BaseException:
            self.trips.mend()
            raise

    return method


def asked(function: Callable[[], T]) -> Asking[T] | None:
    """Return the call that a `partial` of a method would make alone; None where the method is of another kind."""
    method: Any = function.func if isinstance(function, partial) else None
    if method is None or not hasattr(method, "asking"):
        return None
    bound = cast("partial[T]", function)
    call: Asking[T] = method.asking(method.__self__, *bound.args, **bound.keywords)
    return call
