"""Messages of LangChain, as LangGraph's state and chat histories hold them: converted into messages, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from pyai_sessions import InvalidValueError, Message, MissingPackageError
from pyai_sessions.integrations.differences import difference, keep, keep_difference, restored
from pyai_sessions.prompts.formats import openai
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats.shapes import plain_text, prompt_messages
from pyai_sessions.values.checks import Clock, utc_now
from pyai_sessions.values.json import plain
from pyai_sessions.values.messages import metadata_of

_NAME = "langchain"
_TYPES = {"user": "human", "assistant": "ai", "developer": "system"}
_CLASSES = {"user": "HumanMessage", "assistant": "AIMessage"}
"""Those of messages that are nothing but a text."""

Pack = Callable[[Any], Any]
"""Makes JSON of any object, or an object of the JSON."""


def messages_of(items: Iterable[Any], *, pack: Pack | None = None, clock: Clock = utc_now) -> list[Message]:
    """Return a new message for each of LangChain's messages.

    *pack* makes JSON of a message that holds more than JSON can say, such as an artifact of a tool.

    Raises:
        InvalidValueError: JSON cannot hold a message, and there is no *pack*; the error names the place.

    """
    return [_message(each, f"items[{n}]", pack, clock) for n, each in enumerate(items)]


def items_of(messages: Iterable[Message], *, unpack: Pack | None = None) -> list[Any]:
    """Return LangChain's messages: those that messages were made of, and of a message of another origin what it says.

    *unpack* undoes the *pack* of `messages_of`.
    """
    framework = _framework()
    return [made for each in messages for made in _made(each, framework, unpack)]


def _message(item: Any, place: str, pack: Pack | None, clock: Clock) -> Message:
    given: Any = {"type": item.type, "data": item.model_dump()}
    packed = None
    try:
        given = plain(given, place)
        if pack is not None and _framework().messages_from_dict([given]) != [item]:
            packed = pack(item)  # JSON makes lists of tuples, for example
    except InvalidValueError:
        if pack is None:
            raise
        packed = pack(item)
        given = {"type": item.type, "data": {key: each for key, each in given["data"].items() if _is_json(each)}}
    data = given["data"]
    kind = data.get("role", "user") if item.type == "chat" else item.type
    calls = [p.call_of(each["id"], each["name"], each["args"], "", {}) for each in data.get("tool_calls") or ()]
    message = Message(
        p.role_of(kind) or kind,
        data.get("content", ""),
        metadata={"anthropic": {"tool_result": {"is_error": True}}} if data.get("status") == "error" else {},
        timestamp=clock(),
        tool_calls=calls or None,
        tool_call_id=data.get("tool_call_id"),
        name=data.get("name"),
    )
    if packed is not None:
        keep_difference(message, _NAME, _as_stored(message), {"packed": packed})
    elif type(data.get("id")) is str and not any(difference(_as_text(message, data["id"]), given)):
        keep(message, _NAME, {"id": data["id"]})
    else:
        keep_difference(message, _NAME, _as_stored(message), given)
    return message


def _is_json(value: Any) -> bool:
    try:
        plain(value, "")
    except InvalidValueError:
        return False
    return True


def _framework() -> Any:
    try:
        return import_module("langchain_core.messages")
    except ImportError as err:
        raise MissingPackageError("pyai_sessions.integrations.langchain", "langchain-core", name=err.name) from err


def _made(message: Message, framework: Any, unpack: Pack | None) -> Iterable[Any]:
    """Return the messages of LangChain that a message becomes."""
    item_id = p.native(metadata_of(message).get(_NAME)).get("id")
    text = None if item_id is None else plain_text(message)
    if text is not None:  # most are so
        return [getattr(framework, _CLASSES[message.role])(content=text, name=message.name, id=item_id)]
    made = restored(message, _NAME, _as_stored(message))
    if "packed" in made and unpack is not None:
        return [unpack(made["packed"])]
    is_kept = "packed" in made or made["data"]["id"] != message.message_id
    found: list[Any] = framework.messages_from_dict([made] if is_kept else list(_as_told(message)))
    return found


def _as_text(message: Message, item_id: str) -> dict[str, Any] | None:
    """Return a message that is nothing but a text as the item of an id; None of any other."""
    text = plain_text(message)
    item = {"role": message.role, "content": text, "name": message.name}
    return None if text is None else _item(item, (), item_id, "success")


def _as_stored(message: Message) -> dict[str, Any]:
    """Return the item that the fields of a message are, one by one. Its id differs from that of any item given."""
    as_text = _as_text(message, message.message_id)
    if as_text is not None:
        return as_text
    role = p.role_of(message.role) or message.role
    content = "" if message.content is None else plain(message.content, "content")
    is_error = p.own_of(message, "anthropic", "tool_result").get("is_error")
    item = {"role": role, "content": content, "name": message.name, "tool_call_id": message.tool_call_id}
    return _item(item, p.calls_of(message), message.message_id, "error" if is_error else "success")


def _as_told(message: Message) -> Iterator[dict[str, Any]]:
    """Yield what a message says as items: several for one that holds results of tools beside other content."""
    for n, each in enumerate(prompt_messages(message)):
        said = each.message
        written, _ = openai.write([said])
        if written == [{"role": "user", "content": p.EMPTY}] and p.speaker(said) != "user":
            continue
        is_error = p.own_of(said, "anthropic", "tool_result").get("is_error")
        item_id = f"{message.message_id}.{n}" if n else message.message_id
        yield _item(written[0], p.calls_of(said), item_id, "error" if is_error else "success")


def _item(item: Mapping[str, Any], calls: Iterable[p.Call], item_id: str, status: str) -> dict[str, Any]:
    """Return an item with all fields that LangChain's messages have."""
    kind = _TYPES.get(item["role"], item["role"])
    data: dict[str, Any] = {
        "content": item["content"],
        "additional_kwargs": {"__openai_role__": "developer"} if item["role"] == "developer" else {},
        "response_metadata": {},
        "type": kind,
        "name": item.get("name"),
        "id": item_id,
    }
    if data["content"] is None:
        data["content"] = ""
    if kind == "ai":
        made = [{"name": each.name, "args": each.input, "id": each.id, "type": "tool_call"} for each in calls]
        data |= {"tool_calls": made, "invalid_tool_calls": [], "usage_metadata": None}
    elif kind == "tool":
        data |= {"tool_call_id": item["tool_call_id"], "artifact": None, "status": status}
    return {"type": kind, "data": data}
