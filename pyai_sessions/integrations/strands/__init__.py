"""Sessions for Strands Agents: what ``RepositorySessionManager(session_repository=...)`` takes.

It is longer than two converters and the calls, as the framework also stores the states of agents, graphs and swarms,
has several agents in a session, and redacts messages that are stored.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib import import_module
from itertools import groupby
from typing import Any

from pyai_sessions import (
    ANYONE,
    AsyncSessionManager,
    InvalidValueError,
    Message,
    MissingPackageError,
    Session,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
)
from pyai_sessions.integrations.differences import keep_difference, restored
from pyai_sessions.prompts.formats import bedrock
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats.shapes import plain_text, prompt_messages
from pyai_sessions.values.checks import Anyone, check_id, is_utf8
from pyai_sessions.values.json import is_array, is_bytes, is_mapping, thawed
from pyai_sessions.values.messages import metadata_of
from pyai_sessions.values.recent import Recent

try:
    _types: Any = import_module("strands.types.session")
    _Repository: Any = import_module("strands.session.session_repository").SessionRepository
except ImportError:
    _types, _Repository = None, object

_NAME = "strands"
_PAGE = 100


class StrandsSessionRepository(_Repository):  # type: ignore[misc]  # pyright: ignore[reportUntypedBaseClass]
    """The sessions of a manager, as the session managers of Strands Agents use them. It is a ``SessionRepository``.

    The agent that is created first in a session has its messages there; each other agent of it, in a session of its
    own, whose id is that of the session, a slash, and that of the agent. The states of agents are in the session's
    state, under ``"strands"``.

    Args:
        manager: A `SessionManager`, or an `AsyncSessionManager`, on whose store the sync calls are then made.
        user_id: The user to whom new sessions belong. Another user's sessions are not found. Leave it out to ask for no
            user.
        conversation_manager: The conversation manager of an agent that takes up a session which another framework, or
            your own code, has written; by default one of the kind that agents have by default.

    Notes:
        Each call that changes a session is one commit. Two agents may add to one session: both messages stay.

    """

    def __init__(
        self,
        manager: SessionManager | AsyncSessionManager,
        *,
        user_id: str | Anyone = ANYONE,
        conversation_manager: Any = None,
    ) -> None:
        if _types is None:
            raise MissingPackageError("StrandsSessionRepository", "strands-agents", name="strands")
        self._manager = SessionManager(manager.store) if isinstance(manager, AsyncSessionManager) else manager
        self._user_id = user_id
        self._conversation_manager = conversation_manager
        self._places = Recent[str](2 << 20)

    # Sessions ---------------------------------------------------------------------------------------------------------

    def create_session(self, session: Any, **_: Any) -> Any:
        """Create a session; raise Strands' ``SessionException`` if its id is taken."""
        metadata = {_NAME: _plain(session.to_dict())}
        try:
            self._update(session.session_id, metadata=metadata, create=True, if_revision="")
        except SessionExistsError as err:
            raise _error(f"Session {session.session_id} already exists") from err
        return session

    def read_session(self, session_id: str, **_: Any) -> Any:
        """Return a session, or None; an archived one, too, and one that another framework has written."""
        found = self._head(session_id)
        if found is None:
            return None
        times = {"created_at": found.created_at.isoformat(), "updated_at": found.updated_at.isoformat()}
        kept = thawed(p.native(found.metadata.get(_NAME)))
        kind = _types.SessionType(kept.get("session_type", _types.SessionType.AGENT))
        return _types.Session.from_dict({**times, **kept, "session_id": session_id, "session_type": kind})

    # Agents -----------------------------------------------------------------------------------------------------------

    def create_agent(self, session_id: str, session_agent: Any, **_: Any) -> None:
        """Store the state of a new agent."""
        agent_id = check_id(session_agent.agent_id, "agent_id")
        if self._place(session_id, agent_id) != session_id:
            metadata = {_NAME: {"of": session_id, "agent_id": agent_id}}
            self._update(_own_id(session_id, agent_id), metadata=metadata, create=True)
        self._put(session_id, "agents", agent_id, _plain(session_agent.to_dict()), first=agent_id)

    def read_agent(self, session_id: str, agent_id: str, **_: Any) -> Any:
        """Return the state of an agent, or None.

        A session that was written by others, and has no agent yet, has whichever is asked for, with an empty state: so
        it takes up what was said.
        """
        found = self._head(session_id)
        if found is None:
            return None
        agents = _agents(found)
        if agent_id in agents:
            return _types.SessionAgent.from_dict(thawed(agents[agent_id]))
        if agents or not found.message_count:
            return None
        managers: Any = import_module("strands.agent.conversation_manager")
        state = (self._conversation_manager or managers.SlidingWindowConversationManager()).get_state()
        agent = _types.SessionAgent(agent_id=agent_id, state={}, conversation_manager_state=state)
        self.create_agent(session_id, agent)
        return agent

    def update_agent(self, session_id: str, session_agent: Any, **_: Any) -> None:
        """Store the state of an agent; raise Strands' ``SessionException`` if there is no such agent."""
        agent_id = session_agent.agent_id
        stored = _agents(self._found(session_id)).get(agent_id)
        if stored is None:
            raise _error(f"Agent {agent_id} in session {session_id} does not exist")
        session_agent.created_at = stored.get("created_at", session_agent.created_at)
        self._put(session_id, "agents", agent_id, _plain(session_agent.to_dict()))

    def create_multi_agent(self, session_id: str, multi_agent: Any, **_: Any) -> None:
        """Store the state of a graph or a swarm."""
        multi_agent_id = check_id(multi_agent.id, "multi_agent.id")
        self._put(session_id, "multi_agents", multi_agent_id, _plain(multi_agent.serialize_state()))

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **_: Any) -> dict[str, Any] | None:
        """Return the state of a graph or a swarm, or None."""
        found = self._head(session_id)
        kept = p.native(_kept(found).get("multi_agents") if found else None)
        return thawed(kept[multi_agent_id]) if multi_agent_id in kept else None

    def update_multi_agent(self, session_id: str, multi_agent: Any, **_: Any) -> None:
        """Store the state of a graph or a swarm; raise Strands' ``SessionException`` if none was created."""
        if self.read_multi_agent(session_id, multi_agent.id) is None:
            raise _error(f"MultiAgent state {multi_agent.id} in session {session_id} does not exist")
        self.create_multi_agent(session_id, multi_agent)

    def _put(self, session_id: str, kind: str, name: str, given: Mapping[str, Any], first: str | None = None) -> None:
        kept: dict[str, Any] = {kind: {name: given}}
        if first is not None and "first" not in _kept(self._found(session_id)):
            kept["first"] = first
        self._update(session_id, state={_NAME: kept}, remove_state=[[_NAME, kind, name]])

    # Messages ---------------------------------------------------------------------------------------------------------

    def create_message(self, session_id: str, agent_id: str, session_message: Any, **_: Any) -> None:
        """Append a message. Its place in the session becomes its ``message_id``."""
        is_text = session_message.redact_message is None and _text_of(session_message.message) is not None
        given: dict[str, Any] = session_message.__dict__ if is_text else session_message.to_dict()
        added = message_of(given)
        try:  # to append takes less time than to update
            self._manager.append(self._place(session_id, agent_id), added, user_id=self._user_id)
        except SessionNotFoundError as err:
            raise _error(f"Session {session_id} does not exist") from err

    def read_message(self, session_id: str, agent_id: str, message_id: int, **_: Any) -> Any:
        """Return a message, or None."""
        found = self.list_messages(session_id, agent_id, offset=message_id, limit=1)
        return found[0] if found else None

    def update_message(self, session_id: str, agent_id: str, session_message: Any, **_: Any) -> None:
        """Put a message in the place of the one that was created at the same time; it may redact that one's content.

        What replaces the content is what other models, and searches, are given.
        """
        place, given = self._place(session_id, agent_id), session_message.to_dict()
        for stored in self._newest_first(place):
            known = p.native(restored(stored, _NAME, _written(stored)))
            if known.get("created_at") == given["created_at"]:
                changed = message_of(given)
                fields = {
                    name: getattr(changed, name) for name in ("content", "metadata", "tool_calls", "tool_call_id")
                }
                self._manager.replace_message(place, stored.message_id, user_id=self._user_id, **fields)
                return
        raise _error(f"Message {session_message.message_id} does not exist")

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **_: Any
    ) -> list[Any]:
        """Return the messages of an agent, from *offset* on; those before it are not loaded."""
        place = self._place(session_id, agent_id)
        found = self._head(place) if offset else None
        last = None if found is None else max(found.message_count - offset, 0)
        loaded = self._manager.get_session(place, last=last, user_id=self._user_id)
        if loaded is None:
            raise _error(f"Session {session_id} does not exist")
        first = loaded.message_count - len(loaded.messages)
        made = list(messages_of(loaded.messages, first))[max(offset - first, 0) :]
        return list(map(_types.SessionMessage.from_dict, made if limit is None else made[:limit]))

    def _newest_first(self, session_id: str) -> Iterator[Message]:
        page = self._manager.get_messages(session_id, limit=1, user_id=self._user_id)
        while page:
            yield from reversed(page)
            if not page.has_older:
                return
            page = self._manager.get_messages(session_id, before=page[0], limit=_PAGE, user_id=self._user_id)

    # Where it lies ----------------------------------------------------------------------------------------------------

    def _place(self, session_id: str, agent_id: str) -> str:
        """Return the id of the session that has the messages of an agent: it stays the same, and is read once."""
        place = self._places.get((session_id, agent_id))
        if place is None:
            first = _kept(self._found(session_id)).get("first")
            place = session_id if first in (None, agent_id) else _own_id(session_id, agent_id)
            if first is not None:
                self._places.put((session_id, agent_id), place, len(place))
        return place

    def _head(self, session_id: str) -> Session | None:
        return self._manager.get_session(session_id, last=0, user_id=self._user_id)

    def _found(self, session_id: str) -> Session:
        found = self._head(session_id)
        if found is None:
            raise _error(f"Session {session_id} does not exist")
        return found

    def _update(self, session_id: str, **changes: Any) -> None:
        try:
            self._manager.update(session_id, user_id=self._user_id, **changes)
        except SessionNotFoundError as err:
            raise _error(f"Session {session_id} does not exist") from err


# Messages of Strands, and ours ------------------------------------------------------------------------------------


def message_of(given: Mapping[str, Any]) -> Message:
    """Return a ``SessionMessage``, as a dict, as a message. Of one that was redacted, it says what redacts it."""
    original, redacting = given["message"], given.get("redact_message")
    said = original if redacting is None else redacting
    moment = _moment(given.get("created_at"))
    text = _text_of(said)
    message = _read(said, moment) if text is None else Message(said["role"], text, timestamp=moment)
    written = _written(message)
    kept = {key: _plain(each) for key, each in given.items() if key not in ("message", "redact_message", "message_id")}
    kept["said"] = written["said"] if text is not None and said == written["said"] else _plain(said)
    if redacting is not None:
        kept["original"] = _plain(original)
    keep_difference(message, _NAME, written, kept)
    return message


def _text_of(said: Mapping[str, Any]) -> str | None:
    """Return the text of a message of Strands that is a single one, as most are; None of any other."""
    match said:
        case {"role": "user" | "assistant", "content": [{"text": str(text), **others}]} if not others:
            return text if text.strip() and is_utf8(text) else None
        case _:
            return None


def _read(said: Mapping[str, Any], moment: datetime) -> Message:
    content, role = p.given_object(_decoded(said), "message").get("content"), said.get("role")
    try:
        made = bedrock.read([("message", {"role": role, "content": content})], None, lambda: moment, {})
    except InvalidValueError:  # a role or a block that the API has not
        made = []
    if len(made) == 1:
        return made[0]
    return Message(role if role in ("user", "assistant") else "user", content, timestamp=moment)


def messages_of(messages: Iterable[Message], first: int = 0) -> Iterator[p.Part]:
    """Return messages as dicts of ``SessionMessage``; the place of the first is *first*. System messages are left out.

    What others wrote becomes what it says, results of tools that follow each other being one message.
    """
    for is_own, group in groupby(enumerate(messages, first), lambda each: _NAME in metadata_of(each[1])):
        run = list(group)
        parts = [[each] for each in run] if is_own else _joined(run)
        for part in parts:
            given = restored(part[0][1], _NAME, _written(*(each for _, each in part)))
            if given.get("said"):
                said, original = given.pop("said"), given.pop("original", None)
                redacting = {"redact_message": said} if original else {}
                made: p.Part = {
                    "message": original or said,
                    **redacting,
                    "updated_at": given.get("created_at"),
                    **given,
                }
                yield {**made, "message_id": part[-1][0]}


_Placed = tuple[int, Message]


def _joined(run: Sequence[_Placed]) -> list[list[_Placed]]:
    """Return messages in groups: consecutive results of tools are one group, any other message is its own."""
    parts: list[list[_Placed]] = []
    for each in run:
        if parts and p.speaker(each[1]) == p.speaker(parts[-1][-1][1]) == "tool":
            parts[-1].append(each)
        else:
            parts.append([each])
    return parts


def _written(*messages: Message) -> p.Part:
    """Write a message of Strands, as JSON, from the own fields of one message, or of several results of tools."""
    made: p.Part = {"created_at": messages[0].timestamp.isoformat()}
    [first, *others] = messages
    text = None if others else plain_text(first)
    if text is not None:
        return {**made, "said": {"role": first.role, "content": [{"text": text}]}}
    said = [part.message for each in messages for part in prompt_messages(each)]
    role = "assistant" if any(p.speaker(each) == "assistant" for each in said) else "user"
    turns, _ = bedrock.write(said)
    return {**made, "said": _plain(turns[-1])} if turns and turns[-1]["role"] == role else made


def _plain(value: Any) -> Any:
    """Return a value as JSON in the way of Strands: bytes as an object with base64."""
    if is_bytes(value):
        return {"__bytes_encoded__": True, "data": b64encode(value).decode()}
    if is_mapping(value):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if is_array(value) else value


def _decoded(value: Any) -> Any:
    """Return what `_plain` returns with the base64 alone, as formats read it."""
    if is_mapping(value):
        if value.get("__bytes_encoded__") is True:
            return value.get("data")
        return {key: _decoded(each) for key, each in value.items()}
    return [_decoded(each) for each in value] if is_array(value) else value


def _moment(text: Any) -> datetime:
    try:
        made = datetime.fromisoformat(text)
    except (TypeError, ValueError):  # no time of this calendar
        return _now()
    return made if made.tzinfo is not None else made.replace(tzinfo=timezone.utc)


def _now() -> datetime:
    return datetime.now(timezone.utc)


# Sessions ---------------------------------------------------------------------------------------------------------


def _kept(found: Session) -> Mapping[str, Any]:
    """Return what a session keeps of its agents."""
    return p.native(found.state.get(_NAME))


def _agents(found: Session) -> Mapping[str, Any]:
    """Return the states of its agents, by their ids."""
    return p.native(_kept(found).get("agents"))


def _own_id(session_id: str, agent_id: str) -> str:
    return f"{session_id}/{agent_id}"


def _error(problem: str) -> Any:
    return import_module("strands.types.exceptions").SessionException(problem)
