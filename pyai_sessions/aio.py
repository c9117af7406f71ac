"""AsyncSessionManager: the same face, awaited."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, TypeVar, cast

from typing_extensions import ParamSpec, Self

from pyai_sessions.awaiting import LONG, PING, SHORT, Awaiting
from pyai_sessions.concurrency.processes import OfOneProcess
from pyai_sessions.errors import InvalidValueError, StorageClosedError
from pyai_sessions.events import OnEvent, watch
from pyai_sessions.manager import SessionManager, as_other, inherited, opened, with_default
from pyai_sessions.stores.four_methods import CustomSessionStore
from pyai_sessions.stores.kv import KVSessionStore
from pyai_sessions.values.checks import Clock, shown
from pyai_sessions.values.json import Default, check_default

P = ParamSpec("P")
T = TypeVar("T")

_KINDS = {
    "import_sessions": LONG,
    "archive_inactive": LONG,
    "delete_inactive": LONG,
    "inactive": LONG,
    "users": LONG,
    "delete_user": LONG,
    "export_sessions": LONG,
    "copy_sessions": LONG,
    "redact": LONG,
    "purge_expired": LONG,
    "clear": LONG,
    "reindex": LONG,
    "verify": LONG,
    "rotate_keys": LONG,
    "backup": LONG,
    "ping": PING,
}
"""Methods of a store that have threads of their own."""


class _Open:
    """Whether a manager is open: it was not closed, nor was the one whose namespace it is of."""

    def __init__(self, above: _Open | None = None) -> None:
        self._above = above
        self._closed = False

    def close(self) -> None:
        self._closed = True

    def check(self) -> None:
        """Raise where it was closed."""
        if self._closed:
            raise StorageClosedError("AsyncSessionManager", "it was closed")
        if self._above is not None:
            self._above.check()


class _InThreads:
    """A store whose methods run in threads, while a manager is open."""

    def __init__(self, store: KVSessionStore, calls: Awaiting, opened: _Open) -> None:
        self.store = getattr(store, "store", store)
        self.clock: Clock = store.clock
        self.made = store
        self._calls = calls
        self._open = opened

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.made, name)

        def call(*arguments: Any, **options: Any) -> Awaitable[Any]:
            self._open.check()
            return self._calls.in_thread(functools.partial(method, *arguments, **options), _KINDS.get(name, SHORT))

        return call


class _ToAwait(SessionManager):
    """SessionManager over a store whose methods are to be awaited: so are its own, which end in a call of the store."""

    def __init__(self, store: Any, default: Default | None, *, closes: bool) -> None:
        self._store = store
        self._default = default
        self._closes = closes

    def _opened(self, found: T) -> T:
        default = self._default
        if default is None:
            return found

        async def opened() -> Any:
            return with_default(await cast("Awaitable[Any]", found), default)

        return cast("T", opened())


def _awaited(
    method: Callable[Concatenate[SessionManager, P], T],
) -> Callable[Concatenate[AsyncSessionManager, P], Coroutine[Any, Any, T]]:
    """Return the async form of a method of SessionManager."""

    @functools.wraps(method)
    async def call(self: AsyncSessionManager, /, *arguments: P.args, **options: P.kwargs) -> T:
        return await cast("Awaitable[T]", method(self._manager, *arguments, **options))  # pyright: ignore[reportPrivateUsage]

    return call


class AsyncSessionManager(OfOneProcess):
    """SessionManager for async code: the same methods, awaited, on asyncio and, where anyio is installed, on trio.

    Args:
        store: What SessionManager takes, or a SessionManager: both then work on one store. The async methods of a
            custom store are awaited; what is sync, mappings among it, runs in threads, so that the event loop goes on.
        index: Of a custom store: a mapping for its index, as SessionManager's.
        clock: Returns the current time, aware; tests set it.
        close_store: Whether `close` closes a store, a mapping or a `Storage` that was given, too.
        on_event: A function that is told what happens, as SessionManager's; it is not awaited. The start and the end of
            a call it is told in the caller's task, what comes in between in the thread that works for it.
        default: Converts what JSON cannot hold, as SessionManager's: `jsonable`, or a function of your own.
        threads: How many sync calls run at the same time; by default as many as the storage makes use of, 1 to 8. Calls
            that share their trips to Redis do so in two more, many at a time. Managers of one store, and of its
            namespaces, share their threads where they have the same number.

    Notes:
        A call that is cancelled while it writes raises only when it is known what became of the write: the session is
        then as it was stored. A `Session` object is one task's at a time. *progress* is called in the working thread.

    >>> import asyncio
    >>> async def chat():
    ...     async with AsyncSessionManager() as manager:
    ...         session = await manager.create_session(user_id="user123")
    ...         session.add_message("user", "Hello!")
    ...         await manager.save(session)
    ...         return await manager.count("user123")
    >>> asyncio.run(chat())
    1

    """

    def __init__(
        self,
        store: Any = None,
        *,
        index: Any = None,
        clock: Clock | None = None,
        close_store: bool = False,
        default: Default | None = None,
        on_event: OnEvent | None = None,
        threads: int | None = None,
    ) -> None:
        if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
            raise InvalidValueError("threads", f"is {shown(threads)}; it is a whole number of 1 or more")
        made, closes = opened(store, index, clock, close_store=close_store)
        default, on_event = inherited(store, check_default(default), on_event)
        if watch(self, on_event):
            made.count_trips()
        threads = threads or made.threads
        self._on_event = on_event
        self._calls: Awaiting = made.shared.setdefault(
            threads, Awaiting(threads, awaits=isinstance(made, CustomSessionStore))
        )
        self._work_on(made, default, _Open(), closes=closes)
        self._calls.use(self._open)

    def _work_on(self, store: KVSessionStore, default: Default | None, opened: _Open, *, closes: bool) -> None:
        self._open = opened
        self._store = _InThreads(store, self._calls, opened)
        self._manager = _ToAwait(self._store, default, closes=closes)

    def namespace(self, namespace: str) -> Self:
        """Return a manager of a namespace, as `SessionManager.namespace` does, on the threads of this one."""
        made = as_other(self, AsyncSessionManager)
        store = self._store.made.namespace(namespace)
        default = self._manager._default  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        made._work_on(store, default, _Open(self._open), closes=False)  # noqa: SLF001 (its own class)
        watch(made, self._on_event)
        return made

    @property
    def store(self) -> Any:
        """The store in use."""
        return self._manager.store

    def __repr__(self) -> str:
        return f"<AsyncSessionManager of {self.store!r}>"

    create_session = _awaited(SessionManager.create_session)
    get_session = _awaited(SessionManager.get_session)
    get_sessions = _awaited(SessionManager.get_sessions)
    get_or_create_session = _awaited(SessionManager.get_or_create_session)
    load_history = _awaited(SessionManager.load_history)
    get_messages = _awaited(SessionManager.get_messages)
    get_message = _awaited(SessionManager.get_message)
    switch = _awaited(SessionManager.switch)
    save = _awaited(SessionManager.save)
    append = _awaited(SessionManager.append)
    update = _awaited(SessionManager.update)
    fork = _awaited(SessionManager.fork)
    archive = _awaited(SessionManager.archive)
    restore = _awaited(SessionManager.restore)
    delete = _awaited(SessionManager.delete)
    get_sessions_for_user = _awaited(SessionManager.get_sessions_for_user)
    list_sessions = _awaited(SessionManager.list_sessions)
    count = _awaited(SessionManager.count)
    users = _awaited(SessionManager.users)
    ping = _awaited(SessionManager.ping)
    user_state = _awaited(SessionManager.user_state)
    update_user_state = _awaited(SessionManager.update_user_state)
    app_state = _awaited(SessionManager.app_state)
    update_app_state = _awaited(SessionManager.update_app_state)
    import_sessions = _awaited(SessionManager.import_sessions)
    archive_inactive = _awaited(SessionManager.archive_inactive)
    delete_inactive = _awaited(SessionManager.delete_inactive)
    delete_user = _awaited(SessionManager.delete_user)
    redact = _awaited(SessionManager.redact)
    export_sessions = _awaited(SessionManager.export_sessions)
    copy_sessions = _awaited(SessionManager.copy_sessions)
    purge_expired = _awaited(SessionManager.purge_expired)
    clear_all = _awaited(SessionManager.clear_all)
    reindex = _awaited(SessionManager.reindex)
    verify = _awaited(SessionManager.verify)
    backup = _awaited(SessionManager.backup)
    rotate_keys = _awaited(SessionManager.rotate_keys)

    async def close(self) -> None:
        """Close what SessionManager.close would, and end the threads. Calls after this raise StorageClosedError."""
        closing = cast("Awaitable[None] | None", self._manager.close())
        if closing is not None:
            await closing
        self._open.close()
        self._calls.leave(self._open)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
