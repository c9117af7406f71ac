"""AsyncSessionManager: the same face, awaited."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from types import MethodType, TracebackType
from typing import Any, Concatenate, TypeVar, cast

from typing_extensions import ParamSpec, Self

from pyai_sessions.awaiting import LONG, PING, SHORT, Awaiting
from pyai_sessions.errors import InvalidValueError, SessionError, StorageClosedError
from pyai_sessions.events import OnEvent, watch
from pyai_sessions.manager import SessionManager, as_other
from pyai_sessions.manager.face import Manages
from pyai_sessions.manager.streaming import MessageStream
from pyai_sessions.stores.four_methods import CustomSessionStore
from pyai_sessions.values.checks import ANYONE, Anyone, Clock, shown
from pyai_sessions.values.json import Default
from pyai_sessions.values.messages import Message

P = ParamSpec("P")
T = TypeVar("T")


class _Open:
    """Whether a manager is open: it was not closed, nor was the one whose namespace it is of."""

    def __init__(self, above: _Open | None = None) -> None:
        self._above = above
        self.closed = False

    def check(self) -> None:
        """Raise where it was closed."""
        if self.closed:
            raise StorageClosedError("AsyncSessionManager", "it was closed")
        if self._above is not None:
            self._above.check()


def _awaited(
    method: Callable[Concatenate[SessionManager, P], T], kind: str = SHORT
) -> Callable[Concatenate[AsyncSessionManager, P], Coroutine[Any, Any, T]]:
    """Return the async form of a method of SessionManager: it makes the call in a thread of those for its *kind*."""

    @functools.wraps(method, updated=())
    async def call(self: AsyncSessionManager, /, *arguments: P.args, **options: P.kwargs) -> T:
        return await self._in_thread(method, kind, *arguments, **options)  # pyright: ignore[reportPrivateUsage]

    return call


class AsyncSessionManager(Manages):
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
        manager = SessionManager(
            store, index=index, clock=clock, close_store=close_store, default=default, on_event=on_event
        )
        self._call(manager, _Open())
        threads = threads or self._store.threads
        awaiting = Awaiting(threads, awaits=isinstance(self._store, CustomSessionStore))
        self._calls: Awaiting = self._store.shared.setdefault(threads, awaiting)
        self._calls.use(self._open)
        watch(self, self._on_event)

    def _call(self, manager: SessionManager, opened: _Open) -> None:
        """Make the calls of a sync manager, while this one is open."""
        self._manager, self._open = manager, opened
        made: Manages = manager
        self._store, self._closes = made._store, made._closes  # noqa: SLF001
        self._default, self._on_event = made._default, made._on_event  # noqa: SLF001

    def _in_thread(
        self,
        method: Callable[Concatenate[SessionManager, P], T],
        kind: str,
        /,
        *arguments: P.args,
        **options: P.kwargs,
    ) -> Coroutine[Any, Any, T]:
        self._open.check()
        bound = cast("Callable[P, T]", MethodType(method, self._manager))
        return self._calls.in_thread(functools.partial(bound, *arguments, **options), kind)

    def namespace(self, namespace: str) -> Self:
        """Return a manager of a namespace, as `SessionManager.namespace` does, on the threads of this one."""
        made = as_other(self, AsyncSessionManager)
        made._call(self._manager.namespace(namespace), _Open(self._open))  # noqa: SLF001 (its own class)
        watch(made, self._on_event)
        return made

    def stream(  # noqa: D102 (its documentation is the sync method's)
        self,
        session_id: str,
        *,
        role: str = "assistant",
        every: float = 1.0,
        patience: float = 60.0,
        user_id: str | Anyone = ANYONE,
        **fields: Any,
    ) -> AsyncMessageStream:
        made = SessionManager.stream(  # not the method of the object, which tells the hook
            self._manager, session_id, role=role, every=every, patience=patience, user_id=user_id, **fields
        )
        return AsyncMessageStream(made, self._in_order)

    stream.__doc__ = SessionManager.stream.__doc__

    def _in_order(self, store: Callable[[], None]) -> Coroutine[Any, Any, None]:
        self._open.check()
        return self._calls.in_thread(store, SHORT)

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
    get_branch = _awaited(SessionManager.get_branch)
    save = _awaited(SessionManager.save)
    append = _awaited(SessionManager.append)
    replace_message = _awaited(SessionManager.replace_message)
    remove_message = _awaited(SessionManager.remove_message)
    pop_message = _awaited(SessionManager.pop_message)
    clear_messages = _awaited(SessionManager.clear_messages)
    rewind = _awaited(SessionManager.rewind)
    update = _awaited(SessionManager.update)
    fork = _awaited(SessionManager.fork)
    archive = _awaited(SessionManager.archive)
    restore = _awaited(SessionManager.restore)
    delete = _awaited(SessionManager.delete)
    get_sessions_for_user = _awaited(SessionManager.get_sessions_for_user)
    list_sessions = _awaited(SessionManager.list_sessions)
    search = _awaited(SessionManager.search, LONG)
    count = _awaited(SessionManager.count)
    users = _awaited(SessionManager.users, LONG)
    ping = _awaited(SessionManager.ping, PING)
    user_state = _awaited(SessionManager.user_state)
    update_user_state = _awaited(SessionManager.update_user_state)
    app_state = _awaited(SessionManager.app_state)
    update_app_state = _awaited(SessionManager.update_app_state)
    import_sessions = _awaited(SessionManager.import_sessions, LONG)
    archive_inactive = _awaited(SessionManager.archive_inactive, LONG)
    delete_inactive = _awaited(SessionManager.delete_inactive, LONG)
    delete_user = _awaited(SessionManager.delete_user, LONG)
    redact = _awaited(SessionManager.redact, LONG)
    export_sessions = _awaited(SessionManager.export_sessions, LONG)
    copy_sessions = _awaited(SessionManager.copy_sessions, LONG)
    purge_expired = _awaited(SessionManager.purge_expired, LONG)
    clear_all = _awaited(SessionManager.clear_all, LONG)
    reindex = _awaited(SessionManager.reindex, LONG)
    build_search_index = _awaited(SessionManager.build_search_index, LONG)
    drop_search_index = _awaited(SessionManager.drop_search_index, LONG)
    build_messages_view = _awaited(SessionManager.build_messages_view, LONG)
    verify = _awaited(SessionManager.verify, LONG)
    backup = _awaited(SessionManager.backup, LONG)
    rotate_keys = _awaited(SessionManager.rotate_keys, LONG)

    async def close(self) -> None:
        """Close what SessionManager.close would, and end the threads. Calls after this raise StorageClosedError."""
        if self._closes and not self._open.closed:
            await self._calls.in_thread(self._manager.close)
        self._open.closed = True
        self._calls.leave(self._open)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncMessageStream:
    """A message that ``AsyncSessionManager.stream`` stores while it grows: `MessageStream`, awaited.

    An ``async with`` block ends it, also where its task is cancelled.
    """

    def __init__(self, stream: MessageStream, call: Callable[[Callable[[], None]], Coroutine[Any, Any, None]]) -> None:
        self._stream = stream
        self._call = call

    @property
    def session_id(self) -> str:
        """The session to which the message is appended."""
        return self._stream.session_id

    @property
    def message(self) -> Message | None:
        """The message as it was last stored; None before the first piece."""
        return self._stream.message

    @property
    def content(self) -> str:
        """The text so far, stored or not."""
        return self._stream.content

    async def write(self, piece: str) -> None:
        """Add a piece of text, as `MessageStream.write` does."""
        if self._stream.add(piece):
            await self.store()

    async def store(self) -> None:
        """Store the message as it is now, still growing, as `MessageStream.store` does."""
        await self._call(self._stream.store)

    async def finish(self, **changes: Any) -> None:
        """Store the whole message, as `MessageStream.finish` does."""
        await self._call(functools.partial(self._stream.finish, **changes))

    async def cut_off(self) -> None:
        """Store what there is, as cut off."""
        await self._call(self._stream.cut_off)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.finish()
        else:
            with suppress(SessionError), _shielded():  # the exception in the block says what went wrong
                await self.cut_off()


def _shielded() -> AbstractContextManager[object]:
    """Let what is awaited inside not be cancelled: anyio and trio cancel each await of a task that is to end."""
    if "anyio" not in sys.modules:
        return nullcontext()
    import anyio

    return anyio.CancelScope(shield=True)
