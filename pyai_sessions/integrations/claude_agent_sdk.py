"""Sessions for the Claude Agent SDK: what ``ClaudeAgentOptions(session_store=...)`` takes.

It is longer than two converters and the calls, as each append keeps a summary for the SDK's lists, sub-agents have
transcripts of their own, and an entry may be sent again after it was changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import quote, unquote
from uuid import NAMESPACE_OID, UUID, uuid5

from pyai_sessions import (
    ANYONE,
    AsyncSessionManager,
    InvalidValueError,
    Message,
    MissingPackageError,
    SessionConflictError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
)
from pyai_sessions.integrations.differences import keep_difference, restored
from pyai_sessions.prompts.formats import anthropic
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats.shapes import prompt_messages
from pyai_sessions.values.checks import Anyone, Clock, check_id, check_time, utc_now
from pyai_sessions.values.json import is_array, is_mapping, plain_object
from pyai_sessions.values.recent import Recent

_NAME = "claude_agent_sdk"
_PROJECT, _SUMMARY, _AGENT = "claude_project", "claude_summary", "claude_agent"
_SUMMARY_SIZE = 1000
"""Bytes that a summary is taken for."""


class ClaudeSessionStore:
    """The sessions of a manager, as the Claude Agent SDK stores and resumes its transcripts.

    A transcript is a session, and each of its entries a message. What a user or the model says, calls and results
    included, is in the message's own fields. A title, a mode and the like are messages that no model is given. The
    transcript of a sub-agent is a session of its own.

    Args:
        manager: An `AsyncSessionManager`, or a `SessionManager`, whose calls are then made in threads.
        user_id: The user to whom the sessions belong. Another user's are as if they were not there, and appending to
            one raises `SessionExistsError`. Leave it out to ask for no user; a list then reads the heads of all
            sessions.

    Notes:
        Appending is one commit, whatever it holds; the first one of a sub-agent is two. Any number of processes may
        append to one session. An entry with a ``uuid`` that the session has is not stored again.

    """

    def __init__(self, manager: AsyncSessionManager | SessionManager, *, user_id: str | Anyone = ANYONE) -> None:
        self._manager = manager if isinstance(manager, AsyncSessionManager) else AsyncSessionManager(manager)
        self._user_id = user_id
        self._known = Recent[tuple[str, Any]](2 << 20)

    async def append(self, key: Any, entries: list[Any]) -> None:
        """Append entries to a transcript. The first ones create its session.

        Raises:
            SessionArchivedError: The session is archived.
            SessionExistsError: It is another user's.
            InvalidValueError: An entry is no object of JSON. None is stored.

        """
        session_id, added = session_id_of(**key), messages_of(entries)
        append = partial(self._append_agents if "subpath" in key else self._append, key, session_id, entries)
        try:
            await append(added)
        except InvalidValueError as err:
            if err.path != "message_id":
                raise
            await append(await self._new(session_id, added))  # the CLI has changed an entry since it sent it

    async def _append(self, key: Any, session_id: str, entries: list[Any], added: list[Message]) -> None:
        """Append to the transcript of a session, and update its summary, into which the SDK folds the entries."""
        titles = [each["customTitle"] for each in entries if isinstance(each.get("customTitle"), str)]
        title: dict[str, Any] = {"title": titles[-1].strip()[:1000] or None} if titles else {}
        while added:
            revision, summary = self._known.pop(session_id) or await self._read(session_id)
            before = None if summary is None else {"session_id": key["session_id"], "mtime": 0, "data": summary}
            folded = _sdk().fold_session_summary(before, key, entries)["data"]
            try:
                revision = await self._manager.update(
                    session_id,
                    *added,
                    metadata={_PROJECT: key["project_key"], _SUMMARY: folded},
                    remove_metadata=[_SUMMARY],
                    **title,
                    create=True,
                    if_revision=revision,
                    user_id=self._user_id,
                )
            except SessionConflictError:
                continue
            except SessionExistsError:
                if await self._manager.get_session(session_id, last=1, user_id=self._user_id) is None:
                    raise
                continue  # another process created it in between
            self._known.put(session_id, (revision, folded), _SUMMARY_SIZE)
            return

    async def _read(self, session_id: str) -> tuple[str, Any]:
        session = await self._manager.get_session(session_id, last=1, user_id=self._user_id)
        if session is None:
            return "", None
        summary = session.metadata.get(_SUMMARY)
        return session.revision or "", None if summary is None else plain_object(summary, _SUMMARY)

    async def _append_agents(self, key: Any, session_id: str, _: list[Any], added: list[Message]) -> None:
        """Append to the transcript of a sub-agent. Its name is noted in the calling session before it is created."""
        try:
            await self._manager.append(session_id, *added, user_id=self._user_id)
        except SessionNotFoundError:
            caller = session_id_of(key["project_key"], key["session_id"])
            about = {_AGENT: {"caller": caller, "subpath": key["subpath"]}}
            await self._manager.update(
                caller,
                metadata={_PROJECT: key["project_key"]},
                state={_NAME: {"subpaths": {key["subpath"]: True}}},
                create=True,
                user_id=self._user_id,
            )
            await self._manager.update(session_id, *added, metadata=about, create=True, user_id=self._user_id)

    async def _new(self, session_id: str, added: list[Message]) -> list[Message]:
        """Return the messages whose ids the session does not have yet."""
        return [
            each
            for each in added
            if await self._manager.get_message(session_id, each.message_id, user_id=self._user_id) is None
        ]

    async def load(self, key: Any) -> list[Any] | None:
        """Return the entries of a transcript, oldest first; None if there are none. An archived one has them still."""
        try:
            page = await self._manager.get_messages(session_id_of(**key), limit=None, user_id=self._user_id)
        except SessionNotFoundError:
            return None
        return entries_of(page, key["session_id"]) or None

    async def list_sessions(self, project_key: str) -> list[Any]:
        """Return the id of each session of a project, and the time of its last entry in milliseconds since 1970."""
        return [
            {"session_id": unquote(each.session_id.partition("/")[2]), "mtime": _milliseconds(each.active_at)}
            for each in await self._listed(project_key)
        ]

    async def list_session_summaries(self, project_key: str) -> list[Any]:
        """Return what the SDK keeps to show of each session of a project in a list. No entry is read."""
        return [
            {
                "session_id": unquote(each.session_id.partition("/")[2]),
                "mtime": _milliseconds(each.active_at),
                "data": plain_object(each.metadata[_SUMMARY], _SUMMARY),
            }
            for each in await self._listed(project_key)
            if is_mapping(each.metadata.get(_SUMMARY))
        ]

    async def _listed(self, project_key: str) -> list[Any]:
        page = await self._manager.list_sessions(self._user_id, where={_PROJECT: project_key})
        return [each for each in page if each.message_count]

    async def list_subkeys(self, key: Any) -> list[str]:
        """Return the subpaths of the sub-agents whose transcripts are stored for a session."""
        subpaths = await self._subpaths(key)
        ids = {session_id_of(key["project_key"], key["session_id"], each): each for each in subpaths}
        found = await self._manager.get_sessions(list(ids), last=1, user_id=self._user_id)
        return [ids[each] for each in found]

    async def _subpaths(self, key: Any) -> list[str]:
        session_id = session_id_of(key["project_key"], key["session_id"])
        session = await self._manager.get_session(session_id, last=1, user_id=self._user_id)
        return [] if session is None else list(session.state.get(_NAME, {}).get("subpaths", {}))

    async def delete(self, key: Any) -> None:
        """Delete a transcript; that of a session goes with those of its sub-agents. It stays deleted."""
        session_id = session_id_of(**key)
        self._known.pop(session_id)
        if "subpath" not in key:
            for subpath in await self._subpaths(key):
                await self._manager.delete(session_id_of(**key, subpath=subpath), user_id=self._user_id)
        await self._manager.delete(session_id, user_id=self._user_id)


def session_id_of(project_key: str, session_id: str, subpath: str | None = None) -> str:
    """Return the id of the session that holds a transcript of the SDK.

    >>> session_id_of("-home-ada-app", "5b2e4b1c-6f0a-4b7e-9d3a-2f1f0c9a7d11")
    '-home-ada-app/5b2e4b1c-6f0a-4b7e-9d3a-2f1f0c9a7d11'

    """
    given = {"project_key": project_key, "session_id": session_id}
    names = [quote(check_id(each, name), safe=" :@+,=~") for name, each in given.items()]
    return "/".join(names if subpath is None else [*names, check_id(subpath, "subpath")])


def messages_of(entries: Iterable[Any], clock: Clock = utc_now) -> list[Message]:
    """Return a new message for each entry; of two with one ``uuid`` the first."""
    made: dict[str, Message] = {}
    for n, each in enumerate(entries):
        message = _message(p.given_object(each, f"entries[{n}]"), f"entries[{n}]", clock)
        made.setdefault(message.message_id, message)
    return list(made.values())


def _message(entry: p.Part, path: str, clock: Clock) -> Message:
    given: dict[str, Any] = {"timestamp": clock()}
    with suppress(InvalidValueError):
        given["timestamp"] = check_time(entry.get("timestamp", given["timestamp"]), "timestamp")
    uuid = entry.get("uuid")
    if isinstance(uuid, str) and 0 < len(uuid) <= _MAX_UUID:
        given["message_id"] = uuid
    fields: dict[str, Any] = {"role": "assistant", "content": None}
    said = entry.get("message")
    if entry.get("type") in ("user", "assistant") and is_mapping(said) and not entry.get("isApiErrorMessage"):
        with suppress(InvalidValueError):  # the CLI's own affair
            fields = _said(dict(said), path, clock)
    message = Message(**fields, **given)
    keep_difference(message, _NAME, _written(message), [entry])
    return message


_MAX_UUID = 256


def _said(item: p.Part, path: str, clock: Clock) -> dict[str, Any]:
    """Return the fields of the message that stores an entry; several results of tools stay in one content, as given."""
    read = anthropic.read([(path, item)], None, clock, {})
    if len(read) > 1:
        return {"role": item["role"], "content": item["content"]}
    names = ("role", "content", "metadata", "tool_calls", "tool_call_id", "name")
    return {name: getattr(read[0], name) for name in names}


def entries_of(messages: Iterable[Message], session_id: str) -> list[Any]:
    """Return the entries that messages were made of. A message of another origin follows the entry before it."""
    made: list[Any] = []
    last: Mapping[str, Any] = {}
    for message in messages:
        for entry in restored(message, _NAME, _written(message)):
            if "parentUuid" in entry and entry["parentUuid"] == entry.get("uuid") is not None:
                about = {key: last[key] for key in _CARRIED if key in last}
                entry |= {"isSidechain": False, "sessionId": session_id, **about, "parentUuid": last.get("uuid")}
            if "parentUuid" in entry:
                last = entry
            made.append(entry)
    return made


_CARRIED = ("userType", "cwd", "version", "gitBranch")
"""What the CLI says of itself in each entry."""


def _written(message: Message) -> list[p.Part]:
    """Return the entries that a message's own fields are written as. Each is its own parent, unlike the CLI's."""
    spoken = [each.message for each in prompt_messages(message)]
    items, system = anthropic.write(spoken)
    if p.speaker(spoken[0]) != "user" and items and items[0]["content"] in (p.OPENING, p.EMPTY):
        items = items[1:]  # the API wants the user to begin
    said = [{"type": each["role"], "message": each} for each in items]
    told = [] if system is None else [{"type": "system", "subtype": "informational", "content": _text_of(system)}]
    made = [{**_entry(message, n), **each} for n, each in enumerate([*told, *said])]
    for each in made:
        if each["type"] == "assistant":  # the CLI joins messages of one id
            content = each["message"]["content"]
            blocks = [p.text_part(content)] if isinstance(content, str) else content
            each["message"] = {"id": f"msg_{each['uuid']}", "type": "message", "role": "assistant", "content": blocks}
    return made


def _text_of(system: Any) -> str:
    return "\n\n".join(each["text"] for each in system) if is_array(system) else system


def _entry(message: Message, n: int) -> p.Part:
    time = message.timestamp.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    uuid = _uuid(message.message_id if n == 0 else f"{message.message_id}.{n}")
    return {"uuid": uuid, "timestamp": time, "parentUuid": uuid}


def _uuid(message_id: str) -> str:
    """Return the id of a message as a UUID, which the CLI wants: the id itself if it is one."""
    try:
        return message_id if str(UUID(message_id)) == message_id else str(uuid5(NAMESPACE_OID, message_id))
    except ValueError:
        return str(uuid5(NAMESPACE_OID, message_id))


def _milliseconds(time: Any) -> int:
    return int(time.timestamp() * 1000)


def _sdk() -> Any:
    try:
        return import_module(_NAME)
    except ImportError as err:
        raise MissingPackageError("ClaudeSessionStore.append", "claude-agent-sdk", name=_NAME) from err
