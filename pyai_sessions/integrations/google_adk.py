"""Sessions for Google's Agent Development Kit: what ``Runner(session_service=...)`` takes.

It is longer than two converters and the calls, as each event may change the states of session, user and app, and an
event is refused where another writer was faster.
"""

from __future__ import annotations

from asyncio import Lock, gather, get_running_loop
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timezone
from functools import lru_cache, partial
from importlib import import_module
from typing import Any
from weakref import WeakValueDictionary

from pyai_sessions import (
    ANYONE,
    AsyncSessionManager,
    InvalidValueError,
    Message,
    MissingPackageError,
    Session,
    SessionConflictError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
)
from pyai_sessions.integrations.differences import keep_difference, restored
from pyai_sessions.prompts.formats import gemini
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats.shapes import plain_text, prompt_messages
from pyai_sessions.values.checks import check_id
from pyai_sessions.values.json import is_array, is_mapping, read, thawed, write

try:
    _sessions: Any = import_module("google.adk.sessions.base_session_service")
    _Service: Any = _sessions.BaseSessionService
except ImportError:
    _sessions, _Service = None, object

_NAME = "google_adk"
_STALE = "the session was loaded before another writer added to it; load it again with get_session"
_URL_SAFE = str.maketrans("+/", "-_")
_STANDARD = str.maketrans("-_", "+/")
_EMPTY = ("state_delta", "artifact_delta", "requested_auth_configs", "requested_tool_confirmations")
"""Fields of an event's actions that are empty unless they are given."""


class GoogleADKSessionService(_Service):  # type: ignore[misc]  # pyright: ignore[reportUntypedBaseClass]
    """The sessions of a manager, as the ADK's runner uses them. It is a ``BaseSessionService``.

    An event is a message with the event's id. An app's name is in the metadata of its sessions. The state of the app
    and of its users is that of the manager, under the app's name: ``(await manager.app_state())["my_app"]``.

    Args:
        manager: An `AsyncSessionManager`, or a `SessionManager`, whose calls are then made in threads.
        agent_name: The author of what another framework, or your own code, wrote as the assistant. Give the name of
            your agent: an ADK agent takes only events of its own name for its own words.

    Notes:
        Each call is one commit: the event, and what it changes in the states of session, user and app, see
        `SessionManager.update`. Session ids are unique in the manager: of two users, or two apps, only one can have
        a session of a given id.

    """

    def __init__(self, manager: AsyncSessionManager | SessionManager, *, agent_name: str = "assistant") -> None:
        if _sessions is None:
            raise MissingPackageError("GoogleADKSessionService", "google-adk", name="google.adk")
        self._manager = manager if isinstance(manager, AsyncSessionManager) else AsyncSessionManager(manager)
        self._agent_name = agent_name
        self._appending: WeakValueDictionary[Any, Lock] = WeakValueDictionary()

    async def create_session(
        self, *, app_name: str, user_id: str, state: Mapping[str, Any] | None = None, session_id: str | None = None
    ) -> Any:
        """Create a session, with these states of its own, its user and its app, and return it.

        Raises:
            AlreadyExistsError: The id is taken, by this user or another.

        """
        session_id = (session_id or "").strip() or Session().session_id
        changes = _changes(check_id(app_name, "app_name"), _jsonable(state or {}))
        metadata = {_NAME: {"app_name": app_name}}
        try:
            await self._manager.update(
                session_id, metadata=metadata, create=True, if_revision="", user_id=user_id, **changes
            )
        except SessionExistsError as err:
            raise _error("already_exists_error", "AlreadyExistsError")(
                f"Session with id {session_id} already exists."
            ) from err
        return await self.get_session(app_name=app_name, user_id=user_id, session_id=session_id)

    async def get_session(self, *, app_name: str, user_id: str, session_id: str, config: Any = None) -> Any:
        """Return a session with its events, or None; an archived one, too.

        *config* limits the events: to the most recent so many, which cost no more than these, or to those from a time
        on.
        """
        recent, after = getattr(config, "num_recent_events", None), getattr(config, "after_timestamp", None)
        found, users, apps = await gather(
            self._manager.get_session(
                session_id.strip(), last=None if recent is None or after else max(recent, 1), user_id=user_id
            ),
            self._manager.user_state(user_id),
            self._manager.app_state(),
        )
        if found is None or not _is_of(found.metadata, app_name):
            return None
        made = self._session(found, app_name, users, apps)
        if after:
            made.events = [each for each in made.events if each.timestamp >= after]
        if recent is not None:
            made.events = made.events[-recent:] if recent else []
        return made

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> Any:
        """Return the sessions of a user, or of all users, with their states and without events, oldest first."""
        owner = ANYONE if user_id is None else user_id
        listed = await self._manager.list_sessions(owner, status=None, order="oldest")
        ids = [each.session_id for each in listed if each.user_id is not None and _is_of(each.metadata, app_name)]
        found = list((await self._manager.get_sessions(ids, last=1)).values())
        owners = list(dict.fromkeys(str(each.user_id) for each in found))
        apps, *states = await gather(self._manager.app_state(), *map(self._manager.user_state, owners))
        users = dict(zip(owners, states, strict=True))
        made = [self._session(each, app_name, users[str(each.user_id)], apps) for each in found]
        for each in made:
            each.events = []
        made.sort(key=lambda each: (each.last_update_time, each.user_id, each.id))
        return _sessions.ListSessionsResponse(sessions=made)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session; nothing happens if there is none."""
        found = await self._manager.get_session(session_id.strip(), last=0, user_id=user_id)
        if found is not None and _is_of(found.metadata, app_name):
            await self._manager.delete(found.session_id, user_id=user_id)

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return the state of a user in an app, with keys without ``user:``."""
        return dict(p.native((await self._manager.user_state(user_id)).get(app_name)))

    async def append_event(self, session: Any, event: Any) -> Any:
        """Store an event, and what it changes in the states, in one commit; then add it to the session in hand.

        Partial events, and keys that begin with ``temp:``, change the session in hand alone. Nothing of the session is
        loaded. An event of the same id, given again, is stored once.

        Raises:
            StaleSessionError: Another writer has added an event since the session was loaded. It is a ValueError.
            SessionNotFoundError: The ADK's: there is no such session.
            SessionArchivedError: It is archived.

        """
        if event.partial:
            return event
        given = _json_of(event)
        delta: dict[str, Any] = p.native(given.get("actions")).get("state_delta") or {}
        for key in [each for each in delta if each.startswith("temp:")]:
            del delta[key]
        message, changes = message_of(given), _changes(session.app_name, delta)
        lock = self._appending.setdefault((get_running_loop(), session.id), Lock())
        async with lock:  # tasks of one run share the session in hand
            session._storage_update_marker = await self._append(session, message, changes)  # noqa: SLF001
            session.last_update_time = event.timestamp
            return await _Service.append_event(self, session, event)

    async def _append(self, session: Any, message: Message, changes: Mapping[str, Any]) -> str | None:
        """Store a message, and return what is then stored of the session: how many messages, and its revision."""
        count, _, revision = (session._storage_update_marker or " ").partition(" ")  # noqa: SLF001
        try:
            stored = await self._manager.update(
                session.id, message, if_revision=revision or None, user_id=session.user_id, **changes
            )
        except SessionNotFoundError as err:
            raise _not_found(session.id) from err
        except SessionConflictError as err:
            found = await self._manager.get_session(session.id, last=1, user_id=session.user_id)
            if found is None:
                raise _not_found(session.id) from err
            if found.messages and found.messages[-1].message_id == message.message_id:
                return _marker(found)  # the call was made again, since nobody knew that it was done
            if str(found.message_count) != count:
                raise _error("_stale_session_error", "StaleSessionError")(_STALE) from err
            session._storage_update_marker = _marker(found)  # noqa: SLF001  (the title or a state was changed)
            return await self._append(session, message, changes)
        return f"{int(count) + 1} {stored}" if count else None

    def _session(self, found: Session, app_name: str, users: Mapping[str, Any], apps: Mapping[str, Any]) -> Any:
        """Return a session, with the events of the messages that are loaded, as the ADK's."""
        events = list(events_of(found.messages, self._agent_name))
        state = dict(found.state)
        state |= {f"app:{key}": each for key, each in p.native(apps.get(app_name)).items()}
        state |= {f"user:{key}": each for key, each in p.native(users.get(app_name)).items()}
        made = import_module("google.adk.sessions.session").Session(
            id=found.session_id,
            app_name=app_name,
            user_id=found.user_id,
            state=thawed(state),
            events=events,
            last_update_time=events[-1].timestamp if events else found.created_at.timestamp(),
        )
        made._storage_update_marker = _marker(found)  # noqa: SLF001
        return made


# Events and messages ----------------------------------------------------------------------------------------------


def message_of(given: Mapping[str, Any]) -> Message:
    """Return an event, as the JSON of its fields, as a message. Its id is the event's, its name that of the agent."""
    content = given.get("content")
    by = "user" if given.get("author") == "user" else "assistant"
    made = Message("assistant", None) if content is None else _said(content, by)  # no format gives that to a model
    named = {"name": given["author"]} if made.role == "assistant" and content and given.get("author") else {}
    made = replace(made, message_id=given["id"], timestamp=_moment(given["timestamp"]), **named)
    keep_difference(made, _NAME, _written(made, plain_text(made)), given)
    return made


def _said(content: p.Part, by: str) -> Message:
    """Return the message that says what a content says; several results of tools stay together, in its content."""
    parts = content.get("parts")
    try:
        made = gemini.read([("event.content", content)], None, lambda: datetime.now(timezone.utc), {})
    except InvalidValueError:  # a role or a part that the API has not
        made = []
    return made[0] if len(made) == 1 else Message("user" if made else by, parts)


def events_of(messages: Iterable[Message], agent_name: str) -> Iterator[Any]:
    """Return the events of messages. A message of another origin becomes what it says; system messages are left out."""
    event = import_module("google.adk.events.event").Event
    for given in filter(None, map(event_json, messages)):
        given.setdefault("author", agent_name)
        plain = _plain_event(event, given)
        if plain is None:
            _translate(given, _URL_SAFE)
        yield plain or event.model_validate_json(write(given))


_OF_EACH = ("id", "timestamp", "invocation_id", "content")
"""The fields that differ from event to event."""


def _plain_event(event: Any, given: p.Part) -> Any:
    """Return the event of JSON that says one text, of whom and where in the app; None of any other.

    It is a copy of an event that the ADK checked, with texts in the place of texts: less than half of a check's cost.
    """
    content = dict(p.native(given.get("content")))
    parts = content.get("parts")
    if set(content) != {"role", "parts"} or not is_array(parts) or len(parts) != 1 or not is_mapping(parts[0]):
        return None
    rest: p.Part = {key: each for key, each in given.items() if key not in _OF_EACH}
    texts = [given["id"], given.get("invocation_id", "none"), parts[0].get("text")]
    is_checked = all(type(each) is str and each for each in texts) and type(given["timestamp"]) is float
    if not is_checked or len(parts[0]) != 1 or not rest.keys() <= {"author", "node_info"}:
        return None
    checked, fresh = _checked(event, write(rest | {"content": {**content, "parts": [{"text": "text"}]}}))
    part = checked.content.parts[0].model_copy(update={"text": texts[-1]})
    said = checked.content.model_copy(update={"parts": [part]})
    own = {key: given[key] for key in _OF_EACH if key in given}
    return checked.model_copy(update=own | {"content": said} | {name: make() for name, make in fresh.items()})


@lru_cache(64)
def _checked(event: Any, given: bytes) -> tuple[Any, dict[str, Callable[[], Any]]]:
    """Return an event that was read from JSON, and what makes values for its other fields that can be changed."""
    made = event.model_validate_json(given)
    fields: dict[str, Any] = made.__dict__
    makers = {name: _maker(each) for name, each in fields.items() if name != "content"}
    return made, {name: maker for name, maker in makers.items() if maker is not None}


def _maker(value: Any) -> Callable[[], Any] | None:
    """Return what makes values that equal one that can be changed; None of one that cannot be."""
    if isinstance(value, _UNCHANGEABLE):
        return None
    make: Callable[[], Any] = value.__class__
    if make() == value:
        return make
    fields: dict[str, Any] = getattr(value, "__dict__", {})
    is_flat = hasattr(value, "model_copy") and all(isinstance(each, _UNCHANGEABLE) for each in fields.values())
    return value.model_copy if is_flat else partial(deepcopy, value)


_UNCHANGEABLE = (str, int, float, type(None))


def event_json(message: Message) -> p.Part | None:
    """Return the JSON of the event that a message was made of, or that says what it says; None if no event says it."""
    text = plain_text(message)
    given: p.Part = restored(message, _NAME, _written(message, text), fresh=text is not None)
    return given if given.keys() > {"id", "timestamp"} else None


def _written(message: Message, text: str | None) -> p.Part:
    """Return the JSON of the event that a message's own fields say, of one that is a plain text that text."""
    made: p.Part = {"id": message.message_id, "timestamp": message.timestamp.timestamp()}
    if text is not None:
        made["content"] = {"role": "user" if message.role == "user" else "model", "parts": [{"text": text}]}
        kinds = {message.role}
    else:
        said = [each.message for each in prompt_messages(message)]
        kinds = {p.speaker(each) for each in said}
        contents, _ = gemini.write(said)
        if not contents or (contents[-1]["role"] == "model") != ("assistant" in kinds):
            return made
        made["content"] = contents[-1]
        _name(contents[-1]["parts"], said)
    author = message.name if "assistant" in kinds else "user" if kinds == {"user"} else None
    return made | ({"author": author} if author else {})


def _name(parts: Iterable[p.Part], said: Iterable[Message]) -> None:
    """Give calls and results the ids that the messages have: the ADK finds the result of a call by its id alone."""
    calls = [call.id for each in said for call in p.calls_of(each)]
    results = [each.tool_call_id for each in said if p.speaker(each) == "tool"]
    for kind, ids in (("function_call", calls), ("function_response", results)):
        for part, known in zip((each[kind] for each in parts if kind in each), ids, strict=False):
            part.setdefault("id", known)


def _json_of(event: Any) -> p.Part:
    """Return an event as the JSON of its fields, without those that are empty by default."""
    given: p.Part = read(event.model_dump_json(exclude_none=True).encode())
    actions = {key: each for key, each in given.pop("actions", {}).items() if each != {} or key not in _EMPTY}
    node = given.pop("node_info", {})
    _translate(given, _STANDARD)
    kept = {"actions": actions, "node_info": {} if node == {"path": ""} else node}
    return given | {key: each for key, each in kept.items() if each}


def _translate(given: p.Part, alphabet: Mapping[int, int]) -> None:
    """Write the data of an event's parts in another base64 alphabet: the ADK's is URL-safe, ours is standard."""
    for part in p.native(given.get("content")).get("parts") or ():
        data = part.get("inline_data")
        if is_mapping(data) and isinstance(data.get("data"), str):
            part["inline_data"] = {**data, "data": data["data"].translate(alphabet)}


def _moment(timestamp: float) -> datetime:
    try:
        return datetime.fromtimestamp(timestamp, timezone.utc)
    except (ValueError, OverflowError, OSError):  # no time of this calendar
        return datetime.now(timezone.utc)


# States -----------------------------------------------------------------------------------------------------------


def _changes(app_name: str, delta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `SessionManager.update` that replace the values of these keys, whole."""
    changes: dict[str, Any] = {}
    own = {key: each for key, each in delta.items() if not key.startswith(("app:", "user:", "temp:"))}
    if own:
        changes |= {"state": own, "remove_state": [[key] for key in own]}
    for name in ("user", "app"):
        shared = {key.partition(":")[2]: each for key, each in delta.items() if key.startswith(f"{name}:")}
        if shared:
            changes[f"{name}_state"] = {app_name: shared}
            changes[f"remove_{name}_state"] = [[app_name, key] for key in shared]
    return changes


def _jsonable(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state as the ADK stores it: models, times and the like as JSON."""
    try:
        made: Mapping[str, Any] = import_module("pydantic_core").to_jsonable_python(state)
    except ValueError:
        return state  # the manager says what JSON cannot hold
    return made


# Sessions ---------------------------------------------------------------------------------------------------------


def _is_of(metadata: Mapping[str, Any], app_name: str) -> bool:
    """Return whether a session is of an app: another framework's, or your own code's, is of any."""
    return p.native(metadata.get(_NAME)).get("app_name") in (None, app_name)


def _marker(found: Session) -> str:
    return f"{found.message_count} {found.revision}"


def _not_found(session_id: str) -> Any:
    return _error("session_not_found_error", "SessionNotFoundError")(f"Session {session_id} not found.")


def _error(module: str, name: str) -> Any:
    """Return an exception class of the ADK, or its base ValueError in releases without one of this name."""
    try:
        return getattr(import_module(f"google.adk.errors.{module}"), name)
    except (ImportError, AttributeError):
        return ValueError
