"""Conversations for Pydantic AI, in sessions: a store whose ``load`` and ``save`` stand around each run of an agent.

It is longer than two converters and the calls, as conversations of the framework have revisions, forks and branches,
and an entry is asked for by its id alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Any, NamedTuple

from pyai_sessions import (
    ANYONE,
    AsyncSessionManager,
    Checkpoint,
    InvalidValueError,
    Message,
    MissingPackageError,
    Session,
    SessionConflictError,
    SessionDeletedError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
)
from pyai_sessions.integrations.pydantic_ai.messages import NAME, entry_id_of, items_of, messages_of
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.values.json import write
from pyai_sessions.values.recent import Recent

try:
    _framework: Any = import_module("pydantic_ai.conversation_store")
    _Store: Any = _framework.ConversationStore
except ImportError:
    _framework, _Store = None, object


class _Place(str):  # noqa: SLOT000 (it has an attribute)
    """The id of an entry that knows in which conversation it is: the framework asks for an entry by its id alone."""

    conversation_id: str = ""


def _placed(entry_id: str, conversation_id: str) -> _Place:
    made = _Place(entry_id)
    made.conversation_id = conversation_id
    return made


class _Stored(NamedTuple):
    """What is known of a stored conversation."""

    revision: str
    """The session's own."""
    token: str
    """The framework's name of what is stored, or one that is made of the messages if others changed these since."""
    size: int
    """How many messages are stored."""
    last: str | None
    """The id of the last message."""

    @property
    def head(self) -> str | None:
        """The id of the last entry."""
        return self.last and entry_id_of(self.last)


class SessionConversationStore(_Store):  # type: ignore[misc]  # pyright: ignore[reportUntypedBaseClass]
    """The sessions of a manager, as Pydantic AI's ``ConversationStore``: a conversation is the session with its id.

    What a user, the system or a tool says in a request of the framework is a message each; a response is one message.
    The branches that a conversation leaves are the session's branches, and a fork shares what precedes it.

    Args:
        manager: An `AsyncSessionManager`, or a `SessionManager`, whose calls are then made in threads.

    Notes:
        A ``scope`` is the id of the user to whom the session belongs. A save that adds to the stored history is one
        commit, and loads nothing; one that rewrites the history, or goes back in it, loads the session. Where anyone
        saved, appended or deleted since a copy was loaded, saving it raises the framework's ``ConversationConflict``.

    """

    def __init__(self, manager: AsyncSessionManager | SessionManager) -> None:
        if _framework is None:
            raise MissingPackageError("SessionConversationStore", "pydantic-ai-slim", name=NAME)
        self._manager = manager if isinstance(manager, AsyncSessionManager) else AsyncSessionManager(manager)
        self._known = Recent[_Stored](1 << 20)

    # What the framework asks for ----------------------------------------------------------------------------------

    async def read_record(self, conversation_id: str) -> Any:
        """Return the record of a conversation, or None if there is no such session."""
        session = await self._manager.get_session(conversation_id, last=1)
        if session is None:
            return None
        self._known.put(conversation_id, _stored(session), 0)
        return _record_of(session)

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[Any]:
        """Return the records of a user's active sessions, or of all, latest change first. Reads all their heads."""
        page = await self._manager.list_sessions(ANYONE if scope is None else scope)
        newest = sorted(page, key=lambda each: each.updated_at, reverse=True)[:limit]
        found = await self._manager.get_sessions([each.session_id for each in newest], last=1)
        return [_record_of(found[each.session_id]) for each in newest if each.session_id in found]

    async def write_record(
        self, record: Any, *, new_entries: Sequence[Any] = (), expected_revision: str | None
    ) -> None:
        """Store a record and the entries that it adds, in one commit.

        Raises:
            ConversationConflict: Another revision is stored than *expected_revision*.
            SessionArchivedError: The session is archived.

        """
        added = [message for each in new_entries for message in _entry_messages(each)]
        base = new_entries[0].parent_id if new_entries else record.head_id
        try:
            if expected_revision is None:
                await self._create(record, base, added)
            else:
                await self._write(record, base, added, expected_revision)
        except (SessionExistsError, SessionDeletedError, SessionConflictError, LookupError) as err:
            raise _framework.ConversationConflict(record.conversation_id) from err

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete the session, with all its entries but those that forks share. It stays deleted."""
        while True:
            session = await self._manager.get_session(conversation_id, last=1)
            if session is None or _stored(session).token != expected_revision:
                raise _framework.ConversationConflict(conversation_id)
            with suppress(SessionConflictError):
                await self._manager.delete(conversation_id, if_revision=session.revision)
                return

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[Any]:
        """Return the entries up to *head_id*, or the last *limit* of them, oldest first.

        Raises:
            LookupError: No conversation has that entry.

        """
        if head_id is None or limit == 0:
            return []
        conversation_id = await self._conversation_of(head_id)
        if limit is not None:  # as a rule the newest messages are enough
            with suppress(SessionNotFoundError):
                page = await self._manager.get_messages(conversation_id, limit=3 * limit + 8)
                entries = entries_of(page, conversation_id)
                if entries and entries[-1].id == head_id and (not page.has_older or len(entries) > limit):
                    return entries[-limit:]
        return entries_of(await self._history_to(conversation_id, head_id), conversation_id)[-(limit or 0) :]

    async def read_entry(self, entry_id: str) -> Any:
        """Return an entry. Where its id comes from another place than a record, all sessions are looked through."""
        return (await self.read_history(entry_id, limit=1))[-1]

    # How it is done -----------------------------------------------------------------------------------------------

    async def _create(self, record: Any, base: str | None, added: list[Message]) -> None:
        conversation_id, source = record.conversation_id, record.forked_from
        before = [] if base is None else await self._history_to(source or await self._conversation_of(base), base)
        messages = [*before, *added]
        metadata = {NAME: _kept(record, len(messages), messages[-1].message_id if messages else None)}
        if before and source and not added:
            with suppress(InvalidValueError):  # what is forked is in a branch: it is copied
                await self._manager.fork(
                    source, before[-1], record.scope, new_id=conversation_id, metadata=metadata, last=1
                )
                return
        scope = ANYONE if record.scope is None else record.scope
        revision = await self._manager.update(
            conversation_id, *messages, metadata=metadata, create=True, if_revision="", user_id=scope
        )
        self._known.put(conversation_id, _made(revision, metadata[NAME]), 0)

    async def _write(self, record: Any, base: str | None, added: list[Message], expected: str) -> None:
        conversation_id = record.conversation_id
        stored = self._known.pop(conversation_id)
        while True:
            if stored is None or stored.token != expected:
                session = await self._manager.get_session(conversation_id, last=1)
                stored = None if session is None else _stored(session)
                if stored is None or stored.token != expected:
                    raise SessionNotFoundError(conversation_id)
            if base != stored.head:
                await self._go_back(record, base, added, expected)
                return
            last = added[-1].message_id if added else stored.last
            kept = _kept(record, stored.size + len(added), last)
            try:
                revision = await self._manager.update(
                    conversation_id, *added, metadata={NAME: kept}, if_revision=stored.revision
                )
            except SessionConflictError:
                stored = None  # what another writer changed may be of no concern here
                continue
            self._known.put(conversation_id, _made(revision, kept), 0)
            return

    async def _go_back(self, record: Any, base: str | None, added: list[Message], expected: str) -> None:
        """Let the session go on from an entry that is not its last one: an earlier one, or one in a branch."""
        session = await self._manager.get_session(record.conversation_id)
        if session is None or _stored(session).token != expected:
            raise SessionNotFoundError(record.conversation_id)
        before = [] if base is None else await self._history_to(session.session_id, base, session)
        log = session.messages
        shared = next((n for n, each in enumerate(zip(log, before, strict=False)) if each[0] != each[1]), None)
        shared = min(len(log), len(before)) if shared is None else shared
        if shared < len(log):
            point = Checkpoint(NAME, shared, log[shared - 1].message_id if shared else None, session.state)
            session.checkpoints.append(point)
            session.rewind(point)
            session.checkpoints.remove(point)
        session.add_messages([*before[shared:], *added])
        last = session.messages[-1].message_id if session.messages else None
        for branch in session.branches:
            if branch.last_message_id == last:
                session.prune(branch)
        session.metadata[NAME] = _kept(record, session.message_count, last)
        await self._manager.save(session, on_conflict="error")

    async def _conversation_of(self, entry_id: str) -> str:
        if isinstance(entry_id, _Place):
            return entry_id.conversation_id
        for each in await self._manager.list_sessions(status=None):
            with suppress(LookupError):
                await self._history_to(each.session_id, entry_id)
                return each.session_id
        raise LookupError(entry_id)

    async def _history_to(self, conversation_id: str, entry_id: str, session: Session | None = None) -> list[Message]:
        """Return the messages up to an entry of a conversation, in its history or in a branch that it left."""
        session = session or await self._manager.get_session(conversation_id)
        if session is None:
            raise SessionNotFoundError(conversation_id)
        found = _up_to(session.messages, entry_id)
        for branch in reversed(session.branches):
            found = found or _up_to(await self._manager.get_branch(conversation_id, branch), entry_id)
        if not found:
            raise LookupError(entry_id)
        return found


# Records ----------------------------------------------------------------------------------------------------------


def _kept(record: Any, count: int, last: str | None) -> dict[str, Any]:
    """Return what the metadata of a session keep of a record, and of the messages that were stored with it."""
    adapter = import_module("pydantic").TypeAdapter(_framework.ConversationRecord)
    text = adapter.dump_json(replace(record, head_id=None, branches=[])).decode()
    return {"record": text, "revision": record.revision, "count": count, "last": last}


def _made(revision: str, kept: dict[str, Any]) -> _Stored:
    return _Stored(revision, kept["revision"], kept["count"], kept["last"])


def _stored(session: Session) -> _Stored:
    revision, kept = session.revision or "", p.native(session.metadata.get(NAME))
    last = session.messages[-1].message_id if session.messages else None
    same = (kept.get("count"), kept.get("last")) == (session.message_count, last)
    others = f"{kept.get('revision', '')} {session.created_at.isoformat()} {session.message_count} {last}"
    return _Stored(revision, kept["revision"] if same else others, session.message_count, last)


def _record_of(session: Session) -> Any:
    conversation_id, stored = session.session_id, _stored(session)
    kept = p.native(session.metadata.get(NAME))
    adapter = import_module("pydantic").TypeAdapter(_framework.ConversationRecord)
    record = (
        adapter.validate_json(kept["record"])
        if "record" in kept
        else _framework.ConversationRecord(conversation_id=conversation_id, head_id=None)
    )
    tips = [each.last_message_id for each in session.branches]
    return replace(
        record,
        conversation_id=conversation_id,
        head_id=stored.head and _placed(stored.head, conversation_id),
        scope=session.user_id,
        branches=[_placed(entry_id_of(each), conversation_id) for each in tips if each],
        revision=stored.token,
        updated_at=session.updated_at,
    )


# Entries ----------------------------------------------------------------------------------------------------------


def _up_to(messages: Sequence[Message], entry_id: str) -> list[Message]:
    places = [n for n, each in enumerate(messages, 1) if entry_id_of(each.message_id) == entry_id]
    return list(messages[: places[-1]]) if places else []


def entries_of(messages: Iterable[Message], conversation_id: str) -> list[Any]:
    """Return the entries that messages were made of; a message of another origin is an entry of its own."""
    items = items_of(messages)
    adapter = import_module("pydantic_ai.messages").ModelMessagesTypeAdapter
    said = adapter.validate_json(write([item for _, item in items]))
    parents = [None, *(entry_id for entry_id, _ in items)]
    return [
        _framework.ConversationEntry(
            id=_placed(entry_id, conversation_id),
            parent_id=parent and _placed(parent, conversation_id),
            message=message,
        )
        for (entry_id, _), parent, message in zip(items, parents, said, strict=False)
    ]


def _entry_messages(entry: Any) -> list[Message]:
    adapter = import_module("pydantic_ai.messages").ModelMessagesTypeAdapter
    [given] = adapter.dump_python([entry.message], mode="json")
    return messages_of(given, str(entry.id))
