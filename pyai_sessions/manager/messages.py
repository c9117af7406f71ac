"""What a manager does with the messages of a session that is not loaded: append, change, and read a part of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.manager.face import Face
from pyai_sessions.model.listed import MessagePage
from pyai_sessions.model.session import history_of
from pyai_sessions.model.session_store import check_messages
from pyai_sessions.model.titles import check_title
from pyai_sessions.prompts.formats import read_appended
from pyai_sessions.sessions.shared_state import UNCHANGED, Unchanged
from pyai_sessions.sessions.trips import Asking, sharing
from pyai_sessions.sessions.updating import Update
from pyai_sessions.values.checks import (
    ANYONE,
    Anyone,
    check_expected,
    check_id,
    check_limit,
    check_user,
    existing_id,
    shown,
)
from pyai_sessions.values.json import converting
from pyai_sessions.values.messages import Message, id_of


class KeepsMessages(Face):
    """The part of `SessionManager` that concerns the messages of a session that is not loaded."""

    @sharing
    def append(
        self, session_id: str, *messages: Message | Mapping[str, Any], user_id: str | Anyone = ANYONE
    ) -> Asking[None]:
        """Append messages, each a `Message` or a dict of its fields, without loading the history. One commit.

        What an API's client returned, or its ``model_dump()``, is taken as `Session.add_messages` takes it. The result
        of a tool that does not name its call, such as Gemini's or Ollama's, belongs to the first call of its function
        that waits: one before it in this call, or else in the history.

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
        owner, added = check_user(user_id), self._messages(messages)
        session_id = existing_id(session_id)
        if added:
            yield from self._engine.updater.update(session_id, Update(added), owner, self._engine.terms)

    @sharing
    def update(
        self,
        session_id: str,
        *messages: Message | Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        remove_metadata: Iterable[str | Sequence[str]] = (),
        remove_state: Iterable[str | Sequence[str]] = (),
        user_state: Mapping[str, Any] | None = None,
        remove_user_state: Iterable[str | Sequence[str]] = (),
        app_state: Mapping[str, Any] | None = None,
        remove_app_state: Iterable[str | Sequence[str]] = (),
        title: str | Unchanged | None = UNCHANGED,
        create: bool = False,
        if_revision: str | None = None,
        user_id: str | Anyone = ANYONE,
    ) -> Asking[str]:
        """Change a session in one commit without loading it, and return its new revision.

        *messages* are appended, as `append` does. *metadata* and *state* are merged into what is stored, by key, at
        every depth: any other value, a list or None too, replaces what was there. So writers of different keys all
        succeed; of one key the later value stays. *remove_metadata* and *remove_state* name what goes before that: a
        key, or a list of the keys that lead to a value; absent is fine. *title* is the new title; None removes it.

        *user_state* and *app_state* change, by the same rules, what `update_user_state` does for *user_id*, and
        `update_app_state`: in the same transaction on SQLite and diskcache, in the same turn with another mapping. On
        Redis and Valkey they follow the session, in round trips of their own. A process that is killed in between has
        stored the session alone; the call, repeated with messages of the same ids, completes it.

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
            InvalidValueError: Something cannot be stored as JSON, another message has the id of one of these, or
                *user_state* is given without a *user_id*.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> message = {"role": "user", "content": "Hello!"}
        >>> revision = manager.update("s", message, state={"step": {"a": 1}}, create=True, user_id="ada")
        >>> _ = manager.update("s", state={"step": {"b": 2}}, if_revision=revision)
        >>> session = manager.get_session("s")
        >>> session.state, session.message_count
        ({'step': {'a': 1, 'b': 2}}, 1)

        """
        owner, added = check_user(user_id), self._messages(messages)
        check_expected(if_revision, "a session: session.revision")
        changes = self._patch(metadata, remove_metadata, "metadata"), self._patch(state, remove_state, "state")
        title = title if isinstance(title, Unchanged) else check_title(title)
        if not isinstance(create, bool):
            raise InvalidValueError("create", f"is {shown(create)}; it is True or False")
        new = None
        if create:
            first = None if isinstance(title, Unchanged) else title
            new = self._new_session(owner, check_id(session_id, "session_id"), metadata, state, first)
            history_of(new).grow(added)
        update = Update(added, *changes, new, if_revision, title)
        call = self._engine.updater.update(existing_id(session_id), update, owner, self._engine.terms)
        users, apps = (
            self._patch(user_state, remove_user_state, "user_state"),
            self._patch(app_state, remove_app_state, "app_state"),
        )
        if users.is_empty and apps.is_empty:
            return (yield from call)
        if owner is None and not users.is_empty:
            raise InvalidValueError("user_state", "is the state of a user, and none is named; give user_id=")
        self._store.require("update_state")
        states = [(user, each) for user, each in ((owner, users), (None, apps)) if not each.is_empty]
        return (yield from self._engine.states.beside(call, states))

    def _messages(self, given: Iterable[object]) -> list[Message]:
        with converting(self._default):
            return check_messages(read_appended(given, clock=self._store.clock))

    @sharing
    def get_messages(
        self,
        session_id: str,
        *,
        before: Message | str | None = None,
        after: Message | str | None = None,
        limit: int | None = 50,
        user_id: str | Anyone = ANYONE,
    ) -> Asking[MessagePage]:
        """Return some messages of a session without the session: what a chat window shows, and scrolls to.

        The newest *limit* that precede the message *before*, or its id; the oldest that follow *after*; without both
        the newest of all. With both, the oldest between them. They are in order, oldest first; the page's ``has_older``
        and ``has_newer`` tell whether there are more. Archived sessions have messages as well.

        Costs one trip for the head, and one for the pages that it returns, of 32 messages or 8 KiB each; one for both
        where this process has returned the message at an end of a page before. To find another message among 100,000
        takes a few trips more and some thirty pages, since an id that we drew begins with its time, and the more of
        them this process has found, the fewer. For one with an id of your own the ids in all older messages are read,
        once per process and session.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionStateError: It has no message *before*, or *after*.

        >>> from pyai_sessions import SessionManager
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
        owner = check_user(user_id)
        check_limit(limit, "limit")
        first, last = (
            None if one is None else id_of(one, name) for one, name in ((after, "after"), (before, "before"))
        )
        return (yield from self._engine.scroller.page(existing_id(session_id), owner, last, first, limit))

    @sharing
    def get_message(
        self, session_id: str, message_id: str, *, user_id: str | Anyone = ANYONE
    ) -> Asking[Message | None]:
        """Return one message of a session without the session; None where it has none of this id.

        Costs what it costs to find it, see `get_messages`.

        Raises:
            SessionNotFoundError: There is no such session.

        """
        owner, wanted = check_user(user_id), id_of(message_id, "message_id")
        return (yield from self._engine.scroller.message(existing_id(session_id), owner, wanted))
