"""OpenAI's Chat Completions: https://platform.openai.com/docs/api-reference/chat/create.

::

    {"role": "system" | "developer" | "user", "content": text | parts, "name"?: text}
    {"role": "assistant", "content": text | parts | None, "tool_calls"?: [
        {"id": text, "type": "function", "function": {"name": text, "arguments": JSON text}}]}
    {"role": "tool", "tool_call_id": text, "content": text | text parts}

Messages are stored in this shape, so little is translated:

- A part goes where the API takes it: all kinds to a user's message, text and refusals to the assistant's, text alone
  to others. In place of what it does not take stands what is missing: ``[image/png left out]``.
- A tool's result that is no text becomes its JSON.
- A message of a role that the API does not know, or a tool's result that names no call, is told as a user's message
  which begins with its role: ``[critic]``.
- Names and ids are made of the characters that the API takes, and cut to its length.
- A part of another kind, or at a place where OpenAI itself takes none (other servers do), is kept under ``"openai"``.
- An assistant's ``refusal``, ``audio``, ``reasoning_content``, ``reasoning`` and ``reasoning_details`` are kept in
  ``metadata["openai"]["message"]``, and written again. Fields that are not known are kept beside the message, and not
  written. Fields that are None, and an empty list, count as absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.values.checks import Clock, check_text, shown
from pyai_sessions.values.json import is_array, is_mapping, thawed
from pyai_sessions.values.messages import Message

_TAKEN = {
    "user": p.CANONICAL - {"refusal"},
    "other": p.CANONICAL - {"refusal"},
    "assistant": frozenset({"text", "refusal"}),
}
_TEXT_ALONE = frozenset({"text"})
_MAX_NAME = 64
_MAX_ID = 40


# Writing ----------------------------------------------------------------------------------------------------------


def write(messages: Sequence[Message]) -> tuple[list[p.Part], None]:
    """Return the messages of a call. There is no system text apart from them."""
    ids = p.CallIds(_MAX_ID, unique=False)
    written = [thawed(made) for each in messages if (made := _item(each, ids)) is not None]
    return written or [{"role": "user", "content": p.EMPTY} for _ in messages[:1]], None


def _item(message: Message, ids: p.CallIds) -> p.Part | None:
    role = p.speaker(message)
    if role == "tool":
        call_id = ids.of_result(message.tool_call_id or "")
        return {"role": role, "content": _result(message), "tool_call_id": call_id, **_name(message)}
    content = _content(message, role)
    if role in ("user", "other"):
        return {"role": "user", "content": p.EMPTY if content is None else content, **_name(message)}
    calls = [_call(each, ids) for each in p.calls_of(message)]
    given = p.own_of(message, "openai", "message")
    own = {key: given[key] for key in _SENT if key in given}
    if content is None and not (calls or own):
        return None
    return {**own, "role": role, "content": content, **_name(message), **({"tool_calls": calls} if calls else {})}


def _content(message: Message, role: str) -> Any:
    if role != "other" and (message.content is None or isinstance(message.content, str)):
        return message.content
    given = p.told_parts(message) if role == "other" else p.parts_of(message)
    return _parts(given, _TAKEN.get(role, _TEXT_ALONE)) or None


def _result(message: Message) -> Any:
    result = p.result_of(message)
    if is_array(result):
        return _parts(result, _TEXT_ALONE) or ""
    return "" if result is None else p.text_of(result)


def _parts(given: Iterable[p.Part], taken: frozenset[str]) -> list[p.Part]:
    return p.written(given, lambda part: _part(part, taken), p.text_part)


def _part(part: Mapping[str, Any], taken: frozenset[str]) -> p.Part | None:
    """Return a stored part as the API has it; None if it takes none such here."""
    kind = part["type"]
    if kind == "openai" and p.is_part(part.get(kind)):
        return dict(part[kind])
    if kind == "refusal" and kind not in taken:
        return p.text_part(p.text_of(part.get("refusal")))
    return _FINISH.get(kind, p.without_apis)(part) if kind in taken and _SOUND[kind](part) else None


_SOUND: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "text": lambda part: isinstance(part.get("text"), str),
    "refusal": lambda part: isinstance(part.get("refusal"), str),
    "image_url": lambda part: p.url_of(part) is not None,
    "input_audio": lambda part: p.media_of(part) is not None,
    "file": lambda part: is_mapping(part.get("file")),
}


def _image(part: Mapping[str, Any]) -> p.Part:
    return p.without_apis(part) if is_mapping(part["image_url"]) else p.image_part(part["image_url"])


def _file(part: Mapping[str, Any]) -> p.Part:
    """Give data a name: the API asks for one."""
    made = p.without_apis(part)
    named = {"filename": "file", **made["file"]} if "file_data" in made["file"] else made["file"]
    return {**made, "file": named}


_FINISH = {"image_url": _image, "file": _file}


def _name(message: Message) -> p.Part:
    return {"name": re.sub(r"[\s<|\\/>]", "_", message.name)[:_MAX_NAME]} if message.name else {}


def _call(call: p.Call, ids: p.CallIds) -> p.Part:
    own = p.rest_of(p.without_apis(call.stored), "id", "type", "function", "custom", "index")
    call_id = ids.of_call(call.id)
    if "custom" in call.stored:
        return {"id": call_id, "type": "custom", "custom": call.stored["custom"], **own}
    function = {"name": p.fit(call.name, _MAX_NAME), "arguments": p.text_of(call.arguments)}
    return {"id": call_id, "type": "function", "function": function, **own}


# Reading ----------------------------------------------------------------------------------------------------------


def read(items: Iterable[tuple[str, p.Part]], system: object, clock: Clock, calls: Mapping[str, str]) -> list[Message]:
    """Return the messages that *items* are. Their results name their *calls* themselves."""
    del calls
    opening = [] if system is None else [("prompt", p.given_object({"role": "system", "content": system}, "prompt"))]
    return [_message(item, path, clock) for path, item in [*opening, *items]]


def _message(item: p.Part, path: str, clock: Clock) -> Message:
    given = {key: value for key, value in item.items() if value is not None}
    role = check_text(given.get("role"), f"{path}.role")
    if role not in _FIELDS:
        raise InvalidValueError(f"{path}.role", f"is {shown(role)}; it is one of {', '.join(map(repr, _FIELDS))}")
    if "tool_call_id" in given:
        check_text(given["tool_call_id"], f"{path}.tool_call_id")
    if "name" in given:
        check_text(given["name"], f"{path}.name")
    if "content" not in item and not (role == "assistant" and given.keys() & {"tool_calls", *_SENT}):
        beside = [key for key in given if key not in _FIELDS[role]]
        found = f": the item has {shown(beside[0])} instead, which is not read" if beside else ""
        raise InvalidValueError(f"{path}.content", f"is missing{found}; it is text, or a list of parts")
    own = {key: given[key] for key in _SENT if key in given} if role == "assistant" else {}
    made = p.new_message(
        path,
        clock,
        role,
        _stored_content(given.get("content"), f"{path}.content", role),
        name=given.get("name"),
        tool_call_id=given.get("tool_call_id"),
        tool_calls=_stored_calls(given.get("tool_calls"), f"{path}.tool_calls"),
        metadata={"openai": {"message": own}} if own else None,
    )
    made.keep_unknown(p.unknown(given, *_FIELDS[role], *own))
    return made


_SENT = ("refusal", "audio", "reasoning_content", "reasoning", "reasoning_details")
"""What else an assistant's message says, and servers take back. All other fields are kept, and not sent."""

_COMMON = ("role", "content", "name")
_FIELDS = {
    "system": _COMMON,
    "developer": _COMMON,
    "user": _COMMON,
    "assistant": (*_COMMON, "tool_calls"),
    "tool": (*_COMMON, "tool_call_id"),
}


def _stored_content(content: Any, path: str, role: str) -> Any:
    if isinstance(content, str) or (content is None and role == "assistant"):
        return content
    given = p.check_list(content, path, "text, or a list of parts")
    return [_stored_part(p.check_part(each, f"{path}[{n}]"), role) for n, each in enumerate(given)]


def _stored_part(part: p.Part, role: str) -> p.Part:
    """Return a part as it is stored: as it is, if it is written so again."""
    sound = part["type"] == "text" or _part(part, _TAKEN.get(role, _TEXT_ALONE)) == part
    return part if sound else {"type": "openai", "openai": part}


def _stored_calls(calls: Any, path: str) -> Any:
    for n, each in enumerate(p.check_list(calls or [], path)):
        call = p.check_object(each, f"{path}[{n}]")
        check_text(call.get("id"), f"{path}[{n}].id")
        kind, what = ("custom", "input") if "custom" in call else ("function", "arguments")
        named = p.check_object(call.get(kind), f"{path}[{n}].{kind}")
        for key in ("name", what):
            check_text(named.get(key), f"{path}[{n}].{kind}.{key}")
    return calls or None
