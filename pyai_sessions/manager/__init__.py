"""SessionManager: the one face of the library that applications talk to. Each part of it has a module here."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TypeVar

from typing_extensions import Self

from pyai_sessions.documents.keys import head_key
from pyai_sessions.events import OnEvent, watch
from pyai_sessions.manager.changing import ChangesMessages
from pyai_sessions.manager.conversations import KeepsConversations
from pyai_sessions.manager.lists import ListsSessions
from pyai_sessions.manager.maintenance import Maintains
from pyai_sessions.manager.messages import KeepsMessages
from pyai_sessions.manager.opening import inherited, opened
from pyai_sessions.manager.search import SearchesMessages
from pyai_sessions.manager.shared_state import SharesState
from pyai_sessions.manager.streaming import StreamsMessages
from pyai_sessions.sessions.trips import Asking, Read, sharing
from pyai_sessions.values.checks import Clock
from pyai_sessions.values.json import Default, check_default

M = TypeVar("M")

_PINGED = "pyai_sessions.ping"
"""The id of the session that a ping asks for. It need not be there."""


class SessionManager(
    KeepsConversations,
    KeepsMessages,
    ChangesMessages,
    StreamsMessages,
    ListsSessions,
    SearchesMessages,
    SharesState,
    Maintains,
):
    """Creates, finds, saves and ends sessions, and lists them by user and by activity.

    Args:
        store: A `SessionStore`, a mapping (``{}``, a SqliteDict, a diskcache.Index, a RedisMapping, your own), a
            `Storage`, a url (``"sqlite:///chat.db"``), the `pathlib.Path` of an SQLite file, or a SessionManager, whose
            store it is. None keeps sessions in memory. What is made here is closed by `close`.
        index: Of a custom store: a mapping in which the manager lists its sessions by activity, for what the store
            itself cannot list.
        clock: Returns the current time, aware; tests set it.
        close_store: Whether `close` closes a store, a mapping or a `Storage` that was given, too.
        on_event: A function that is told what happens: an `Event` at the start and at the end of each call, and where
            one merges, waits or fails. What it raises is logged once, and fails no call. It is called in the thread
            that it happens in, and calls that it makes itself are not told.
        default: Converts what JSON cannot hold, as in `json.dumps`, wherever a value is given to the manager or to a
            session of it: `jsonable` converts datetimes, UUIDs, dataclasses, pydantic models and more. What comes back
            is the JSON. None: such values are refused.

    Notes:
        Any thread may call any method. A `Session` object is one thread's at a time; two threads that load the same
        session have two objects, and both may save.

    >>> manager = SessionManager()
    >>> session = manager.create_session(user_id="user123")
    >>> _ = session.add_message("user", "Hello!")
    >>> manager.save(session)
    >>> [each.message_count for each in manager.get_sessions_for_user("user123")]
    [1]

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
    ) -> None:
        made, closes = opened(store, index, clock, close_store=close_store)
        self._work_on(made, closes=closes)
        self._default, self._on_event = inherited(store, check_default(default), on_event)
        if watch(self, self._on_event):
            self._engine.count_trips()

    @property
    def store(self) -> Any:
        """The store in use."""
        return getattr(self._store, "store", self._store)

    def __repr__(self) -> str:
        return f"<SessionManager of {self.store!r}>"

    def namespace(self, namespace: str) -> Self:
        """Return a manager of a namespace: a part of the storage that knows nothing of the others, and they of it.

        It works on the connections and the threads of this manager, so make one for each tenant, or at each request: it
        is made in microseconds. Its sessions are those of ``KVSessionStore(mapping, namespace=...)``. Closing it frees
        nothing; when this manager is closed, so is it.

        Raises:
            InvalidValueError: It is no name: not text, empty, or longer than 1,024 bytes.
            UnsupportedOperationError: This manager is of a namespace itself, or of a store of your own.

        >>> manager = SessionManager()
        >>> _ = manager.namespace("acme").create_session("ada", session_id="s")
        >>> manager.get_session("s"), manager.namespace("acme").count("ada"), manager.namespace("other").count("ada")
        (None, 1, 0)

        """
        made = as_other(self, SessionManager)
        made._work_on(self._store.namespace(namespace), closes=False)  # noqa: SLF001 (its own class)
        watch(made, self._on_event)
        return made

    @sharing
    def ping(self) -> Asking[None]:
        """Return if the storage answers a read; raise its error if it does not. For health checks.

        One trip, at most as long as the store's ``timeout``. An awaited ping has a thread of its own, so that it does
        not wait for other calls. That the storage takes writes, only a save can tell.

        Raises:
            StorageError: The storage failed: it is unreachable, closed, moved or damaged, or may not be read.

        >>> SessionManager().ping()

        """
        yield Read([head_key(_PINGED)])

    def close(self) -> None:
        """Close a store that was made here, from a url or a mapping; a given one with ``close_store=True`` alone."""
        if self._closes:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def as_other(manager: M, kind: type[Any]) -> M:
    """Return a manager with the attributes of another, except the methods that were replaced to report to a hook."""
    made = object.__new__(type(manager))
    vars(made).update({key: value for key, value in vars(manager).items() if not hasattr(kind, key)})
    return made
