"""SessionManager: the one face of the library that applications talk to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar, cast

from typing_extensions import Self

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.events import OnEvent, watch
from pyai_sessions.maintenance import Maintenance
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.model.listed import MessagePage, SummaryPage
from pyai_sessions.model.points import Branch
from pyai_sessions.model.session import Session, history_of, use_default
from pyai_sessions.model.session_store import OnConflict, SessionStore
from pyai_sessions.prompts.formats import read_prompt
from pyai_sessions.prompts.formats.items import is_of_an_api, own
from pyai_sessions.sessions.filters import Order
from pyai_sessions.sessions.forking import At
from pyai_sessions.shared_state import SharesState
from pyai_sessions.stores.four_methods import CustomSessionStore
from pyai_sessions.stores.kv import KVSessionStore
from pyai_sessions.stores.makers import MemorySessionStore, open_store
from pyai_sessions.values.checks import (
    ANYONE,
    Anyone,
    Clock,
    Nobody,
    check_clock,
    check_id,
    check_user,
    kind_of,
    shown,
)
from pyai_sessions.values.json import Default, check_default, converting, is_mapping, plain_object
from pyai_sessions.values.messages import Message

T = TypeVar("T")
M = TypeVar("M")


class SessionManager(SharesState, Maintenance):
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
        self._store, self._closes = opened(store, index, clock, close_store=close_store)
        self._default, self._on_event = inherited(store, check_default(default), on_event)
        if watch(self, self._on_event):
            self._store.count_trips()

    @property
    def store(self) -> Any:
        """The store in use."""
        return getattr(self._store, "store", self._store)

    def __repr__(self) -> str:
        return f"<SessionManager of {self.store!r}>"

    # One session -------------------------------------------------------------------------------------------------

    def create_session(
        self,
        user_id: str | None = None,
        *,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        title: str | None = None,
    ) -> Session:
        """Create a session, store it at once, and return it.

        Without a *title* lists show the first words of the user's first message. ``session.title`` sets one later.

        Raises:
            SessionExistsError: The given id is taken.

        """
        session = self._new_session(user_id, session_id, metadata, state, title)
        return self._store.create(session)

    def _new_session(
        self,
        user_id: str | None,
        session_id: str | None,
        metadata: Mapping[str, Any] | None,
        state: Mapping[str, Any] | None,
        title: str | None = None,
    ) -> Session:
        given: dict[str, Any] = {"session_id": session_id, "metadata": metadata, "state": state, "title": title}
        given = {key: value for key, value in given.items() if value is not None}
        now = self._store.clock()
        with converting(self._default):
            session = Session(user_id=user_id, created_at=now, updated_at=now, **given)
        history_of(session).clock = self._store.clock
        return use_default(session, self._default)

    def _opened(self, found: T) -> T:
        """Return the sessions that a store gave, which from now on convert what they are given by ``default``."""
        return found if self._default is None else with_default(found, self._default)

    def get_session(
        self, session_id: str, *, last: int | None = None, user_id: str | Anyone = ANYONE, renew: bool = False
    ) -> Session | None:
        """Return a session, or None where there is none, or it has expired.

        *last* loads the newest so many messages alone, at a cost that does not grow with the conversation's length.
        Such a session can be saved and appended to; `load_history` loads what was left out. *renew* lets the session
        live as long from now as after a save, for one commit more: reading alone does not.

        *user_id* says whose the session must be, here and in the methods that follow: another's is not found, by the
        same result or error as one that does not exist, and nothing is written. So is one of no user. Leave it out to
        ask for no user. None, which a login that failed may give, raises. Costs nothing: it is checked in what is read
        anyway, before anything else of the session is decoded.

        A *session_id* that no session can have is not found: None, empty text, text of more than 1,024 bytes.

        Raises:
            InvalidDocumentError: It is stored, but cannot be read; of whom it is, too, where its head is damaged.
            InvalidValueError: *user_id* is None. Or it is to be renewed, and its store has no ``ttl`` that slides.

        >>> manager = SessionManager()
        >>> _ = manager.create_session("ada", session_id="s")
        >>> [user for user in ("ada", "bob") if manager.get_session("s", user_id=user)]
        ['ada']

        """
        return self._opened(self._store.get(session_id, last=last, user_id=user_id, renew=renew))

    def get_sessions(
        self, session_ids: Iterable[str], *, last: int | None = None, user_id: str | Anyone = ANYONE
    ) -> dict[str, Session]:
        """Return sessions by their ids, in that order; those that are not there, or another user's, are left out.

        *last* loads the newest so many messages of each. One trip for up to 100 sessions, and a second one for older
        messages where they do not come with it; in each all that any of these sessions needs.

        Raises:
            InvalidDocumentError: One of them cannot be read.

        >>> manager = SessionManager()
        >>> for session_id in "abc":
        ...     _ = manager.create_session("ada", session_id=session_id)
        >>> list(manager.get_sessions(["c", "x", "a"]))
        ['c', 'a']

        """
        return self._opened(self._store.get_many(session_ids, last=last, user_id=user_id))

    def get_or_create_session(
        self,
        session_id: str,
        user_id: str | Anyone = ANYONE,
        *,
        metadata: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        title: str | None = None,
    ) -> Session:
        """Return the session of this id; create it, with the other arguments, where there is none.

        Without a *user_id* it returns anyone's session, and creates one of no user.

        Raises:
            SessionExistsError: A *user_id* is given, and the stored session is not of that user.

        """
        owner = check_user(user_id)
        made = self._new_session(owner, check_id(session_id, "session_id"), metadata, state, title)
        return self._opened(self._store.get_or_create(made))

    def load_history(self, session: Session) -> None:
        """Load the older messages of a session that was loaded with ``last=``."""
        return self._store.load_history(session)

    def get_messages(
        self,
        session_id: str,
        *,
        before: Message | str | None = None,
        after: Message | str | None = None,
        limit: int | None = 50,
        user_id: str | Anyone = ANYONE,
    ) -> MessagePage:
        """Return some messages of a session without the session: what a chat window shows, and scrolls to.

        The newest *limit* that precede the message *before*, or its id; the oldest that follow *after*; without both
        the newest of all. With both, the oldest between them. They are in order, oldest first; the page's ``has_older``
        and ``has_newer`` tell whether there are more. Archived sessions have messages as well.

        Costs one trip for the head, and one for the pages that it returns, of 32 messages or 8 KiB each; one for both
        where this process has returned the message at an end of a page before. To find another message takes three or
        four trips more among 100,000 messages, since an id that we drew begins with its time. For one with an id of
        your own the ids in all older messages are read, once per process and session.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionStateError: It has no message *before*, or *after*.

        >>> manager = SessionManager()
        >>> session = manager.create_session("ada", session_id="s")
        >>> for n in range(5):
        ...     _ = session.add_message("user", f"message {n}")
        >>> manager.save(session)
        >>> page = manager.get_messages("s", limit=2)
        >>> [each.content for each in page], page.has_older
        (['message 3', 'message 4'], True)
        >>> [each.content for each in manager.get_messages("s", before=page[0], limit=2)]
        ['message 1', 'message 2']

        """
        return self._store.messages(session_id, before=before, after=after, limit=limit, user_id=user_id)

    def get_message(self, session_id: str, message_id: str, *, user_id: str | Anyone = ANYONE) -> Message | None:
        """Return one message of a session without the session; None where it has none of this id.

        Costs what it costs to find it, see `get_messages`.

        Raises:
            SessionNotFoundError: There is no such session.

        """
        return self._store.message(session_id, message_id, user_id=user_id)

    def switch(
        self, session_id: str, branch: str | Branch, *, last: int | None = None, user_id: str | Anyone = ANYONE
    ) -> Session:
        """Let a session go on from a branch that `Session.rewind` left, and return it, loaded as `get_session` does.

        *branch* is one of ``session.branches``, or its id. Messages, state, checkpoints and summary are those of the
        branch; how the conversation went on till now becomes a branch in turn. One commit, at a cost that does not grow
        with the conversation. A copy of the session that was loaded before is stale.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionArchivedError: It is archived.
            SessionStateError: It has no such branch.

        >>> manager = SessionManager()
        >>> session = manager.create_session("ada")
        >>> _ = session.add_message("user", "Tell me a joke."), session.add_message("assistant", "No.")
        >>> branch = session.rewind(1)
        >>> _ = session.add_message("user", "A joke, please!")
        >>> manager.save(session)
        >>> [each.content for each in manager.switch(session.session_id, branch).messages]
        ['Tell me a joke.', 'No.']

        """
        return self._opened(self._store.switch(session_id, branch, last=last, user_id=user_id))

    def save(self, session: Session, *, on_conflict: OnConflict = "merge") -> None:
        """Store a session; afterwards *session* is what is stored. One transaction, or one round trip.

        A copy that went stale is merged with what other writers stored meanwhile: their messages, then yours; metadata
        and state key by key; messages that either replaced or removed one by one, unless both changed the same one.
        ``on_conflict="error"`` raises instead, ``"overwrite"`` replaces what they stored.

        Raises:
            InvalidValueError: Something in the session cannot be stored as JSON; the error names it.
            SessionExistsError: The session was made by hand, and its id is taken.
            SessionArchivedError: It is archived; `restore` makes it active.
            SessionDeletedError: It was deleted since it was loaded, and stays so.
            SessionConflictError: Both changes cannot be kept.
            StorageError: The storage failed.

        """
        return self._store.save(session, on_conflict=on_conflict)

    def append(self, session_id: str, *messages: Message | Mapping[str, Any], user_id: str | Anyone = ANYONE) -> None:
        """Append messages, each a `Message` or a dict of its fields, without loading the history. One commit.

        What an API's client returned, or its ``model_dump()``, is taken as `Session.add_messages` takes it.

        Any number of threads, processes and hosts may append to one session: each message is stored once. One with an
        id of your own may be appended again, as a webhook that is delivered twice does: where the session has it, with
        the same content, at any distance, nothing is stored. Its time does not count.

        A message without an id of its own, a dict or a new `Message`, costs no look at what is stored. For one with an
        id the ids in the session's older messages are read once per process and session, later those of what is new.
        To ask for a user costs nothing. Of a custom store an append costs what a save does.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionArchivedError: It is archived.
            InvalidValueError: Another message of the session has the id of one of these. None is stored.

        """
        with converting(self._default):
            added = self._messages(messages)
        return self._store.append(session_id, added, user_id=user_id)

    def update(
        self,
        session_id: str,
        *messages: Message | Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        remove_metadata: Iterable[str | Sequence[str]] = (),
        remove_state: Iterable[str | Sequence[str]] = (),
        create: bool = False,
        if_revision: str | None = None,
        user_id: str | Anyone = ANYONE,
    ) -> str:
        """Change a session in one commit without loading it, and return its new revision.

        *messages* are appended, as `append` does. *metadata* and *state* are merged into what is stored, by key, at
        every depth: any other value, a list or None too, replaces what was there. So writers of different keys all
        succeed; of one key the later value stays. *remove_metadata* and *remove_state* name what goes before that: a
        key, or a list of the keys that lead to a value; absent is fine.

        *create* stores a new session of *user_id* where there is none. *if_revision* writes only if nobody else has
        since you read that revision (``session.revision``, or what this returned); ``""`` only if there is none yet.
        What changes nothing is not written.

        One trip where this process was the last to write the session, two at the most, like `append`. It may be
        repeated after a `StorageError`; with *if_revision*, a `SessionConflictError` may then mean that the first try
        was stored.

        Raises:
            SessionNotFoundError: There is no such session, and *create* is not given.
            SessionExistsError: It is to be created, and its id is another user's session's, or, for ``""``, taken.
            SessionConflictError: Another revision is stored than *if_revision*, or none. Nothing was written.
            SessionArchivedError: It is archived.
            InvalidValueError: Something cannot be stored as JSON, or another message has the id of one of these.

        >>> manager = SessionManager()
        >>> message = {"role": "user", "content": "Hello!"}
        >>> revision = manager.update("s", message, state={"step": {"a": 1}}, create=True, user_id="ada")
        >>> _ = manager.update("s", state={"step": {"b": 2}}, if_revision=revision)
        >>> session = manager.get_session("s")
        >>> session.state, session.message_count
        ({'step': {'a': 1, 'b': 2}}, 1)

        """
        owner = check_user(user_id)
        with converting(self._default):
            added = self._messages(messages)
            metadata = None if metadata is None else plain_object(metadata, "metadata")
            state = None if state is None else plain_object(state, "state")
        if not isinstance(create, bool):
            raise InvalidValueError("create", f"is {shown(create)}; it is True or False")
        new = None
        if create:
            new = self._new_session(owner, check_id(session_id, "session_id"), metadata, state)
            history_of(new).grow(added)
        return self._store.update(
            session_id,
            added,
            metadata=metadata,
            state=state,
            remove_metadata=remove_metadata,
            remove_state=remove_state,
            new=new,
            if_revision=if_revision,
            user_id=user_id,
        )

    def _messages(self, given: Iterable[object]) -> list[Message]:
        clock = self._store.clock
        return [made for n, each in enumerate(given) for made in _messages(each, n, clock)]

    def fork(
        self,
        session_id: str,
        at: At = None,
        user_id: str | None = None,
        *,
        new_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        last: int | None = 50,
        owned_by: str | Anyone = ANYONE,
    ) -> Session:
        """Create a session that goes on from a point of another, archived or not, store it, and return it.

        *at* says where: a checkpoint or its name, the last message to keep or its id, or how many messages to keep.
        None keeps all that is stored. Metadata, and checkpoints up to there, are those of the other session, and so is
        the state: at a checkpoint that of the checkpoint. *metadata* and *state* are merged into these by key, at every
        depth, in the same commit. The user is the same unless *user_id* is given. The fork's ``parent`` tells where it
        came from. Either can be changed and deleted without the other. *owned_by* says whose the other session must
        be, as ``user_id`` does elsewhere.

        Older messages are shared, not copied: at the end a fork costs the same at any length, before it the way to
        that point. The fork is loaded as `get_session` does it with ``last=50``; None loads all of it. Of a custom
        store it is a copy, and loaded whole.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionExistsError: The new id is taken.
            InvalidValueError: *at* names no point of the session.
            SessionStateError: The session no longer has the history of the checkpoint.

        >>> manager = SessionManager()
        >>> session = manager.create_session("ada", session_id="s")
        >>> for n in range(3):
        ...     _ = session.add_message("user", f"message {n}")
        >>> manager.save(session)
        >>> fork = manager.fork("s", at=2, new_id="t")
        >>> fork.parent, [each.content for each in manager.get_session("t").messages]
        (<Parent 's' at 2 messages>, ['message 0', 'message 1'])

        """
        with converting(self._default):
            metadata = None if metadata is None else plain_object(metadata, "metadata")
            state = None if state is None else plain_object(state, "state")
        return self._opened(
            self._store.fork(
                session_id,
                at,
                user_id=user_id,
                new_id=new_id,
                metadata=metadata,
                state=state,
                last=last,
                owned_by=owned_by,
            )
        )

    def archive(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> None:
        """Take a session out of the lists; it can still be read. Archived already is fine.

        Raises:
            SessionNotFoundError: There is no such session.

        """
        return self._store.archive(session_id, user_id=user_id)

    def restore(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> None:
        """Make an archived session active again: its activity is now. Active already is fine.

        Raises:
            SessionNotFoundError: There is no such session.

        """
        return self._store.restore(session_id, user_id=user_id)

    def delete(self, session_id: str, *, if_revision: str | None = None, user_id: str | Anyone = ANYONE) -> bool:
        """Delete a session; return whether there was one. It stays deleted: a copy of it can no longer be saved.

        *if_revision* deletes it only if nobody else has changed it since you read that revision. Its forks stay whole.
        An unreadable one is deleted as well, where no user is asked for.

        Raises:
            InvalidDocumentError: A user is asked for, or a revision, and its head cannot be read.
            SessionConflictError: Another revision is stored than *if_revision*. Nothing was deleted.

        """
        return self._store.delete(session_id, if_revision=if_revision, user_id=user_id)

    def _filter(self, where: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if where is None:
            return None
        with converting(self._default):
            return plain_object(where, "where")

    # Lists -------------------------------------------------------------------------------------------------------

    def get_sessions_for_user(
        self,
        user_id: str,
        *,
        limit: int | None = None,
        before: datetime | None = None,
        include_archived: bool = False,
        skip_invalid: bool = False,
    ) -> list[Session]:
        """Return a user's sessions with their messages, latest activity first.

        *limit* returns the newest so many; *before* those last active before that time. Costs one index read, one trip
        for heads per 100 sessions and one for their pages per 20, and to decode all that they hold; `list_sessions`
        reads no messages. A session that another process deletes meanwhile is left out.

        Raises:
            InvalidDocumentError: One of them cannot be read; *skip_invalid* leaves such sessions out.

        """
        return self._opened(
            self._store.list_for_user(
                user_id, limit=limit, before=before, include_archived=include_archived, skip_invalid=skip_invalid
            )
        )

    def list_sessions(
        self,
        user_id: str | Anyone | Nobody = ANYONE,
        *,
        where: Mapping[str, Any] | None = None,
        status: SessionStatus | None = SessionStatus.ACTIVE,
        order: Order = "newest",
        limit: int | None = None,
        cursor: str | None = None,
        skip_invalid: bool = False,
    ) -> SummaryPage:
        """Return summaries of a user's sessions, or of all users', latest activity first.

        Leave *user_id* out to list the sessions of all users; `NOBODY` lists those of no user, and None raises. *where*
        keeps those whose metadata has these values: ``{"channel": "web"}``. *status* None lists active and archived
        ones.

        Activity is messages: a new title, metadata or state moves no session. *order* ``"oldest"`` begins with those
        that were idle longest. ``"created"`` sorts by creation, ``"title"`` by title, from A to Z, those without one
        last; ``"-created"`` and ``"-title"`` the other way round. Sorting reads the heads of all the sessions that are
        asked for, at each page; it holds their ids, and the summaries of one page.

        All are listed, unless *limit* says how many: the list is then a page, and its ``next_cursor``, given as
        *cursor*, leads to the next one, whatever was written meanwhile; it is None at the end. No message is read.
        Costs one index read and one trip for heads per 100 sessions; with *where* those that are passed over count,
        too, and with `NOBODY` the sessions of users.

        Beside writers no session comes twice in one call, and a whole list has each that was there all the time. From
        page to page a session that becomes active meanwhile moves to the newest end: with ``order="newest"`` a later
        page lacks it (the first page, asked for again, has it), with ``"oldest"`` it may come once more.

        >>> manager = SessionManager()
        >>> for n, channel in enumerate(["web", "mail", "web"]):
        ...     _ = manager.create_session("ada", session_id=f"s{n}", metadata={"channel": channel})
        >>> page = manager.list_sessions("ada", where={"channel": "web"}, limit=1)
        >>> [each.session_id for each in page]
        ['s2']
        >>> page = manager.list_sessions("ada", where={"channel": "web"}, cursor=page.next_cursor)
        >>> [each.session_id for each in page]
        ['s0']

        """
        return self._store.summaries(
            user_id,
            where=self._filter(where),
            status=status,
            order=order,
            limit=limit,
            cursor=cursor,
            skip_invalid=skip_invalid,
        )

    def count(
        self,
        user_id: str | Anyone | Nobody = ANYONE,
        *,
        where: Mapping[str, Any] | None = None,
        status: SessionStatus | None = SessionStatus.ACTIVE,
    ) -> int:
        """Return how many sessions a user has, or all users, if *user_id* is left out.

        *status* None counts archived ones too.

        One index read. With *where*, which counts those whose metadata has these values, it reads all their heads, and
        for `NOBODY` those of all sessions.
        """
        return self._store.count(user_id, where=self._filter(where), status=status)

    def users(self, *, status: SessionStatus | None = SessionStatus.ACTIVE) -> dict[str | None, int]:
        """Return how many sessions each user has, by user id; last, under None, how many have no user.

        *status* None counts archived ones too. Reads the heads of all sessions, 100 in a trip, and holds the counts. A
        session that becomes active meanwhile may be left out.

        Raises:
            InvalidDocumentError: A head cannot be read.

        >>> manager = SessionManager()
        >>> for user_id in ("bob", "ada", None, "bob"):
        ...     _ = manager.create_session(user_id)
        >>> manager.users()
        {'ada': 1, 'bob': 2, None: 1}

        """
        return self._store.users(status)

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
        vars(made).update(_store=self._store.namespace(namespace), _closes=False)
        watch(made, self._on_event)
        return made

    def ping(self) -> None:
        """Return if the storage answers a read; raise its error if it does not. For health checks.

        One trip, at most as long as the store's ``timeout``. An awaited ping has a thread of its own, so that it does
        not wait for other calls. That the storage takes writes, only a save can tell.

        Raises:
            StorageError: The storage failed: it is unreachable, closed, moved or damaged, or may not be read.

        >>> SessionManager().ping()

        """
        return self._store.ping()

    def _store_of(self, target: object) -> tuple[KVSessionStore, bool]:
        if target is None:
            raise InvalidValueError("target", "is None; it is a manager, a store, a mapping or a url to copy to")
        made = getattr(getattr(target, "_store", None), "made", None)  # of an AsyncSessionManager
        return (made, False) if isinstance(made, KVSessionStore) else opened(target, None, None, close_store=False)

    def close(self) -> None:
        """Close a store that was made here, from a url or a mapping; a given one with ``close_store=True`` alone."""
        return self._store.close() if self._closes else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def opened(store: Any, index: Any, clock: Clock | None, *, close_store: bool) -> tuple[KVSessionStore, bool]:
    """Return the store that a manager's arguments mean, and whether the manager closes it."""
    if isinstance(store, SessionManager):
        given = store
        store = made = given._store  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    elif isinstance(store, KVSessionStore):
        made = store
    elif isinstance(store, SessionStore) or _has_four_methods(store):
        made = CustomSessionStore(store, index)
        if close_store:
            made.check_closes()
    elif store is None:
        made = MemorySessionStore()
    else:
        named = isinstance(store, (str, os.PathLike))
        made = open_store(cast("str", store)) if named else KVSessionStore(store)
        if close_store and not named:
            made.take_over()
    if index is not None and not isinstance(made, CustomSessionStore):
        problem = f"was given beside {kind_of(made)}, which has indexes of its own; leave it out"
        raise InvalidValueError("index", problem)
    if clock is not None:
        check_clock(clock)
        made.clock = clock
    return made, close_store or (made is not store and not isinstance(made, CustomSessionStore))


def inherited(
    store: object, default: Default | None, on_event: OnEvent | None
) -> tuple[Default | None, OnEvent | None]:
    """Return what a manager converts and tells by: what it is given, or what the manager has that it is made of."""
    if isinstance(store, SessionManager):
        return default or store._default, on_event or store._on_event  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return default, on_event


def as_other(manager: M, kind: type[Any]) -> M:
    """Return a manager with all that another one has, but the methods that tell a hook."""
    made = object.__new__(type(manager))
    vars(made).update({key: value for key, value in vars(manager).items() if not hasattr(kind, key)})
    return made


def with_default(found: T, default: Default) -> T:
    """Let the sessions that a call returns, one or several, convert what they are given by *default*."""
    for each in _several(found):
        if isinstance(each, Session):
            use_default(each, default)
    return found


def _several(found: object) -> Iterable[object]:
    if isinstance(found, Session):
        return [found]
    if isinstance(found, dict):
        return cast("dict[str, object]", found).values()
    return cast("Iterable[object]", found or ())


def _has_four_methods(store: object) -> bool:
    methods = ("save", "get", "delete", "list_for_user")
    return not isinstance(store, type) and all(hasattr(store, each) for each in methods)


def _messages(given: object, n: int, clock: Clock) -> list[Message]:
    """Return the message that is given: one of ours, a dict of its fields, or what an API has for one."""
    found = own(given, f"messages[{n}]")
    if found is not None:
        return [found]
    if is_of_an_api(given):
        return read_prompt([given], "openai", clock=clock, place="messages", start=n)
    if not is_mapping(given):
        raise InvalidValueError(f"messages[{n}]", f"is {kind_of(given)}; it is a Message, or a dict of its fields")
    fields: dict[str, Any] = {"timestamp": clock(), **given}
    if "role" not in fields or not fields.keys() <= Message.__dataclass_fields__.keys():
        unknown = sorted(map(str, fields.keys() - Message.__dataclass_fields__.keys()))
        problem = f"has the unknown field {unknown[0]!r}" if unknown else "has no role"
        raise InvalidValueError(
            f"messages[{n}]", f"{problem}; its fields are {', '.join(Message.__dataclass_fields__)}"
        )
    try:
        return [Message(**fields)]
    except InvalidValueError as err:
        raise err.within(f"messages[{n}]") from err
