"""Sessions for Microsoft's Agent Framework: a history provider, what ``Agent(context_providers=[...])`` takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from pyai_sessions import (
    ANYONE,
    AsyncSessionManager,
    Message,
    MissingPackageError,
    SessionManager,
    SessionNotFoundError,
)
from pyai_sessions.integrations.differences import keep_difference, restored
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats.shapes import plain_text, prompt_messages
from pyai_sessions.values.checks import Anyone
from pyai_sessions.values.json import is_array, is_mapping

try:
    _framework: Any = import_module("agent_framework")
    _Provider: Any = _framework.HistoryProvider
except (ImportError, AttributeError):
    _framework, _Provider = None, object

_NAME = "agent_framework"


class AgentFrameworkHistory(_Provider):  # type: ignore[misc]  # pyright: ignore[reportUntypedBaseClass]
    """Keeps the history of the Agent Framework's agents in sessions. It is a ``HistoryProvider``.

    Args:
        manager: An `AsyncSessionManager`, or a `SessionManager`, whose calls are then made in threads.
        user_id: The user to whom the sessions belong. Of another user's session nothing is returned, and storing to it
            raises `SessionExistsError`. Leave it out to ask for no user.
        source_id: The name of the provider in the framework.
        options: What ``HistoryProvider`` takes besides: ``load_messages``, ``store_outputs`` and so on.

    Notes:
        The ``session_id`` of an ``AgentSession`` is the id of the session here, which its first messages create. What
        a run stores is one commit. Any number of agents may add to one session.

    """

    def __init__(
        self,
        manager: AsyncSessionManager | SessionManager,
        *,
        user_id: str | Anyone = ANYONE,
        source_id: str = "pyai_sessions",
        **options: Any,
    ) -> None:
        if _framework is None:
            raise MissingPackageError("AgentFrameworkHistory", "agent-framework-core", name="agent_framework")
        _Provider.__init__(self, source_id, **options)
        self._manager = manager if isinstance(manager, AsyncSessionManager) else AsyncSessionManager(manager)
        self._user_id = user_id

    async def get_messages(self, session_id: str | None, **_: Any) -> list[Any]:
        """Return the messages of a session, oldest first; none if there is no session yet, or no id."""
        if session_id is None:
            return []
        try:
            page = await self._manager.get_messages(session_id, limit=None, user_id=self._user_id)
        except SessionNotFoundError:
            return []
        return [_framework.Message.from_dict(each) for each in items_of(page)]

    async def save_messages(self, session_id: str | None, messages: Sequence[Any], **_: Any) -> None:
        """Append messages, in one commit.

        Raises:
            SessionArchivedError: The session is archived.
            SessionExistsError: It is another user's.
            InvalidValueError: There is no *session_id*, or a message cannot be stored. None is stored.

        """
        if messages:
            added = [message_of(each.to_dict()) for each in messages]
            await self._manager.update(session_id or "", *added, create=True, user_id=self._user_id)


# Messages of the framework, and ours ------------------------------------------------------------------------------


def message_of(given: Mapping[str, Any]) -> Message:
    """Return a message of the framework, as its ``to_dict`` gives it, as one of ours."""
    said = p.given_object(given, "message")
    contents: list[p.Part] = said.get("contents") or []
    kinds = [each.get("type") for each in contents]
    role = str(said.get("role") or "user")
    fields: dict[str, Any] = {"name": said.get("author_name") or None} if role == "assistant" else {}
    if role == "assistant" or (role != "tool" and "function_call" in kinds):
        calls = [_call(each) for each in contents if each.get("type") == "function_call"]
        parts = [_part(each) for each in contents if each.get("type") != "function_call"]
        made = Message(role, _content(parts) if parts else None, tool_calls=calls or None, **fields)
    elif kinds == ["function_result"]:
        made = Message("tool", _result(contents[0]), tool_call_id=p.text_of(contents[0].get("call_id") or ""))
    elif "function_result" in kinds:
        made = Message("user", [_block(each) for each in contents])
    else:
        made = Message(role, _content([_part(each) for each in contents]))
    keep_difference(made, _NAME, _written(made), said)
    return made


def items_of(messages: Iterable[Message]) -> Iterator[p.Part]:
    """Return messages as dicts that the framework reads. One of another origin becomes what it says."""
    for each in messages:
        given = restored(each, _NAME, _written(each))
        if "contents" in given:
            yield given


def _written(message: Message) -> p.Part:
    """Return what a message's own fields say, as the framework's ``to_dict`` gives it."""
    text = plain_text(message)
    if text is not None:
        return _as_dict(message.role, [{"type": "text", "text": text}], message.name)
    said = [each.message for each in prompt_messages(message)]
    kinds = [p.speaker(each) for each in said]
    role = "tool" if "tool" in kinds else kinds[0] if kinds[0] != "other" else "user"
    contents: list[p.Part] = []
    for each in said:
        if p.speaker(each) == "tool":
            result = p.result_of(each)
            text = "" if result is None else result if isinstance(result, str) else _text_of(result)
            contents.append({"type": "function_result", "call_id": each.tool_call_id or "", "result": text})
            continue
        parts = p.told_parts(each) if p.speaker(each) == "other" else p.parts_of(each)
        contents += [made for part in parts if (made := _shown(part))]
        contents += [
            {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": p.text_of(call.arguments)}
            for call in p.calls_of(each)
        ]
    return _as_dict(role, contents, message.name)


def _as_dict(role: str, contents: Sequence[p.Part], name: str | None) -> p.Part:
    said_by = {"author_name": name} if name and role == "assistant" else {}
    said: list[p.Part] = [{**each, "additional_properties": {}} for each in contents]
    return {
        "type": "message",
        "role": role,
        **({"contents": said} if said else {}),
        **said_by,
        "additional_properties": {},
    }


def _content(parts: Sequence[p.Part]) -> Any:
    return (
        parts[0]["text"]
        if len(parts) == 1 and set(parts[0]) == {"type", "text"} and parts[0]["type"] == "text"
        else parts
    )


def _part(content: p.Part) -> p.Part:
    """Return a content as a part: texts and images as every format has them, all else under its own type."""
    kind = content.get("type")
    if kind == "text":
        return p.text_part(p.text_of(content.get("text") or ""))
    uri, media = content.get("uri"), str(content.get("media_type"))
    if kind in ("data", "uri") and isinstance(uri, str) and media.startswith("image/"):
        return p.image_part(uri)
    if kind == "text_reasoning":
        return {"type": "reasoning", "text": content.get("text") or ""}  # private: no other model is given it
    return {**content, "type": str(kind)}


def _shown(part: Mapping[str, Any]) -> p.Part | None:
    kind = part["type"]
    if kind == "text":
        return {"type": "text", "text": part["text"]}
    url = p.url_of(part) if kind == "image_url" else None
    if url is not None:
        media = p.media_of(part)
        return {"type": "data" if media else "uri", "uri": url, "media_type": media.mime_type if media else "image/*"}
    if kind == "reasoning" and set(part) == {"type", "text"}:
        return {"type": "text_reasoning", "text": part["text"]}
    told = p.left_out(part)
    return {"type": "text", "text": told} if told else None


def _call(content: p.Part) -> p.Part:
    return p.call_of(content.get("call_id"), content.get("name"), content.get("arguments") or "", "", {})


def _result(content: p.Part) -> Any:
    return p.text_of(content.get("result") or "")


def _block(content: p.Part) -> p.Part:
    if content.get("type") != "function_result":
        return _part(content)
    return {
        "type": "function_call_output",
        "call_id": p.text_of(content.get("call_id") or ""),
        "output": _result(content),
    }


def _text_of(result: Any) -> str:
    if is_array(result):
        return "\n".join(each["text"] for each in result if is_mapping(each) and isinstance(each.get("text"), str))
    return p.text_of(result)
