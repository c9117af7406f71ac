"""Calls that can share round trips. Each is a generator: it yields a request to the storage and is sent the answer.

A sync caller runs one call alone. A thread that works for many tasks runs many calls, and answers their requests
together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial, wraps
from inspect import signature
from typing import Any, Concatenate, Protocol, TypeVar, cast

import msgspec
from typing_extensions import ParamSpec

from pyai_sessions.documents.writing import Draft
from pyai_sessions.errors import StorageUnreachableError
from pyai_sessions.events import Call, note_error
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.storage.names import split_namespace
from pyai_sessions.storage.wrappers import size_of

P = ParamSpec("P")
T = TypeVar("T")


class Read(msgspec.Struct, frozen=True):
    """A request for documents. The answer maps keys to documents, and may contain documents that other calls asked for.

    A key that ends with a slash asks for everything below it, if the storage is `ordered`.
    """

    keys: Sequence[str]


class Write(msgspec.Struct, frozen=True):
    """A request to store a draft. The answer is whether it is stored."""

    draft: Draft


Ask = Read | Write | None
"""What a call yields. None requests nothing: the rest of the call makes round trips of its own or sleeps, so no other
call should wait for it."""
Asking = Generator[Ask, Any, T]


class Trips:
    """Runs calls, one alone or many together, over the storage of a backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.storage = backend.storage
        self.together = backend.storage.together
        self.mend = backend.storage.mend

    def alone(self, call: Asking[T]) -> T:
        """Run a call, or the rest of one, and return its result."""
        try:
            ask = next(call)
            while True:
                try:
                    answer = ask and self._answer(ask)
                except BaseException as err:  # noqa: BLE001, PERF203 (the call raises it)
                    ask = call.throw(err)
                else:
                    ask = call.send(answer)
        except StopIteration as ended:
            return cast("T", ended.value)
        except BaseException as err:
            note_error(err)
            raise

    def all(self, calls: Sequence[Asking[T]]) -> list[T]:
        """Run calls together, and return their results, in order."""
        going, results = dict(enumerate(calls)), dict[int, T]()
        answers: dict[int, Any] = dict.fromkeys(going)
        while going:
            asks: dict[int, Ask] = {}
            for n, call in list(going.items()):
                try:
                    answer = answers[n]
                    asks[n] = call.throw(answer) if isinstance(answer, BaseException) else call.send(answer)
                except StopIteration as ended:  # noqa: PERF203 (each ends at a time of its own)
                    results[n] = ended.value
                    del going[n]
            answers = dict(zip(asks, self.answers(list(asks.values())), strict=True))
        return [results[n] for n in range(len(calls))]

    def answers(self, asks: Sequence[Ask], of: Sequence[Trips] = ()) -> list[Any]:
        """Return the answers to requests, in as few round trips as possible; an exception is an answer that is raised.

        The calls may be *of* other namespaces of the same storage. If one request fails, the others are answered all
        the same, unless the storage is unreachable: each would wait for it again.
        """
        of = of or [self] * len(asks)
        found: dict[int, Any] = {}
        try:
            for kind, many in ((Read, self._read), (Write, self._write)):
                given = {n: (of[n], ask) for n, ask in enumerate(asks) if isinstance(ask, kind)}
                found.update(zip(given, self._answered(list(given.values()), many), strict=True))
        except StorageUnreachableError as err:
            return [found.get(n, err) for n in range(len(asks))]
        return [found.get(n) for n in range(len(asks))]

    def _answered(
        self, asks: list[tuple[Trips, Any]], many: Callable[[list[tuple[Trips, Any]]], list[Any]]
    ) -> Iterable[Any]:
        if len(asks) > 1:
            try:
                return many(asks)
            except StorageUnreachableError:
                raise
            except BaseException:  # noqa: BLE001, S110 (one request may have failed: each is repeated alone)
                pass
        return (trips.outcome(ask) for trips, ask in asks)

    def outcome(self, ask: Read | Write) -> Any:
        """Return the answer to a request, or the exception that its call raises."""
        try:
            return self._answer(ask)
        except StorageUnreachableError:
            raise
        except BaseException as err:  # noqa: BLE001 (its call raises it)
            return err

    def _answer(self, ask: Read | Write) -> dict[str, object] | bool:
        return self.storage.read(ask.keys) if isinstance(ask, Read) else self.backend.commit(ask.draft)

    def _read(self, asks: list[tuple[Trips, Read]]) -> list[dict[str, object]]:
        of = {trips for trips, _ in asks}
        if len(of) == 1:
            keys = dict.fromkeys(key for _, ask in asks for key in ask.keys)
            return [asks[0][0].storage.read(list(keys))] * len(asks)
        keys = dict.fromkeys(trips.backend.under + key for trips, ask in asks for key in ask.keys)
        found = self.backend.inner.read(list(keys))
        parts = {each: each.own(found) for each in of}
        return [parts[trips] for trips, _ in asks]

    def own(self, found: dict[str, object]) -> dict[str, object]:
        """Return the documents that are in this namespace, of those of the whole storage."""
        under = self.backend.under
        start = len(under)
        return {key[start:]: value for key, value in found.items() if split_namespace(key)[0] == under}

    def _write(self, asks: list[tuple[Trips, Write]]) -> list[bool]:
        if len({trips for trips, _ in asks}) == 1:
            return asks[0][0].backend.commit_many([ask.draft for _, ask in asks])
        done = self.backend.inner.write([trips.backend.change_of(ask.draft) for trips, ask in asks])
        return [trips.backend.settled(ask.draft, done=each) for (trips, ask), each in zip(asks, done, strict=True)]


def count_trip(call: Call, ask: Ask, answer: object) -> None:
    """Count a request that was answered together with others, which no storage can count for its call."""
    call.trips += 1
    if isinstance(ask, Read) and isinstance(answer, dict):
        found = cast("dict[str, object]", answer)
        call.read += sum(size_of(found.get(key)) for key in ask.keys)
    elif isinstance(ask, Write):
        call.written += len(ask.draft.head) + sum(map(size_of, ask.draft.pages.values()))


class _Engine(Protocol):
    @property
    def trips(self) -> Trips: ...


class _HasEngine(Protocol):
    @property
    def _engine(self) -> _Engine: ...


S = TypeVar("S", bound=_HasEngine)
F = TypeVar("F", bound=Callable[..., Any])


def sharing(call: Callable[Concatenate[S, P], Asking[T]]) -> Callable[Concatenate[S, P], T]:
    """Return a method, of a store or a manager, that runs a call alone. `asked_of` finds the call again."""

    @wraps(call)
    def method(self: S, /, *arguments: P.args, **options: P.kwargs) -> T:
        try:
            return self._engine.trips.alone(call(self, *arguments, **options))  # pyright: ignore[reportPrivateUsage]
        except BaseException:
            self._engine.trips.mend()  # pyright: ignore[reportPrivateUsage]
            raise

    shown: Any = method
    shown.asking = call
    returned = call.__annotations__["return"].removeprefix("Asking[").removesuffix("]")
    shown.__annotations__ = {**call.__annotations__, "return": returned}
    shown.__signature__ = signature(call).replace(return_annotation=returned)
    return method


def mending(call: F) -> F:
    """Return a method that, if it is interrupted, leaves no transaction open and no lock taken.

    Its ``with`` blocks clean up, but an exception can interrupt even that.
    """

    @wraps(call)
    def method(self: _HasEngine, /, *arguments: Any, **options: Any) -> Any:
        try:
            return call(self, *arguments, **options)
        except BaseException as err:
            self._engine.trips.mend()  # pyright: ignore[reportPrivateUsage]
            note_error(err)
            raise

    return cast("F", method)


def making(method: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> Asking[T]:
    """Return the call of a method, so that another call can run it.

    A method of a user's own class has no such call. It is called as it is, and no other call waits for it.
    """
    given: Any = method
    if hasattr(given, "asking"):
        call: Asking[T] = given.asking(given.__self__, *arguments, **options)
        return call
    return _called(method, *arguments, **options)


def _called(method: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> Asking[T]:
    yield None
    return method(*arguments, **options)


def asked_of(function: Callable[[], T], *, together: int = 1) -> tuple[Trips, Asking[T]] | None:
    """Return the call of a `partial` of a method, and the `Trips` that run it.

    None if the method has no such call, or if its storage joins fewer than *together* calls.
    """
    method: Any = function.func if isinstance(function, partial) else None
    if method is None or not hasattr(method, "asking"):
        return None
    trips: Trips = method.__self__._engine.trips  # noqa: SLF001
    if trips.together < together:
        return None
    bound = cast("partial[T]", function)
    return trips, making(method, *bound.args, **bound.keywords)
