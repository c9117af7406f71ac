"""Calls that can share their trips to a storage. Each is a generator: it yields what it asks, and is sent the answer.

So a call is written once. A sync caller makes it alone; a thread that works for many tasks makes many calls at a time,
and asks for all of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial, wraps
from itertools import chain
from typing import Any, Concatenate, NamedTuple, Protocol, TypeVar, cast

from typing_extensions import ParamSpec

from pyai_sessions.documents.writing import Draft
from pyai_sessions.errors import StorageUnreachableError
from pyai_sessions.sessions.backend import Backend

P = ParamSpec("P")
T = TypeVar("T")


class Read(NamedTuple):
    """Asks for documents. The answer has those that are there, by their keys, and may have some that others asked for.

    A key that ends with a slash asks for all below, where the storage is `ordered`.
    """

    keys: Sequence[str]


class Write(NamedTuple):
    """Asks to store a draft. The answer is whether it is stored."""

    draft: Draft


Ask = Read | Write | None
"""What a call asks. None asks for nothing: what the call does from here on takes trips or sleeps of its own, and is to
keep no other waiting."""
Asking = Generator[Ask, Any, T]


class Trips:
    """Trips to a backend's storage, for one call or for many."""

    def __init__(self, backend: Backend) -> None:
        self._storage = backend.storage
        self.together = backend.storage.together
        self.mend = backend.storage.mend
        self._one: dict[type, Callable[[Any], Any]] = {Read: self._storage.read, Write: backend.commit}
        self._many: dict[type, Callable[[list[Any]], list[Any]]] = {Read: self._read, Write: backend.commit_many}

    def alone(self, call: Asking[T]) -> T:
        """Make a call, or what is left of it, and return its result."""
        try:
            ask = next(call)
            while True:
                try:
                    answer = ask and self._one[type(ask)](ask[0])
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
        for kind, many in self._many.items():
            given = {n: ask[0] for n, ask in enumerate(asks) if ask and type(ask) is kind}
            try:
                found.update(zip(given, _answered(list(given.values()), self._one[kind], many), strict=True))
            except StorageUnreachableError as err:
                return [found.get(n, err) for n in range(len(asks))]
        return [found.get(n) for n in range(len(asks))]

    def _read(self, given: list[Sequence[str]]) -> list[dict[str, object]]:
        return [self._storage.read(list(dict.fromkeys(chain(*given))))] * len(given)


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
