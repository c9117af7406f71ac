"""Requests and responses of Pydantic AI, as JSON: converted into messages, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

from pyai_sessions import InvalidValueError, Message
from pyai_sessions.integrations.differences import keep_difference, restored
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats.shapes import prompt_messages
from pyai_sessions.values.checks import Clock, check_time, utc_now
from pyai_sessions.values.json import is_array, is_mapping

NAME = "pydantic_ai"
"""The key of what only the framework knows, in the metadata of messages and sessions."""

_PART = re.compile(r"#pydantic_ai\.\d+$")


def entry_id_of(message_id: str) -> str:
    """Return the id of the entry that a message belongs to."""
    return _PART.sub("", message_id)


def items_of(messages: Iterable[Message]) -> list[tuple[str, p.Part]]:
    """Convert messages back into requests and responses, as JSON, each with the id of its entry."""
    made: list[tuple[str, p.Part]] = []
    for entry_id, group in groupby(messages, lambda each: entry_id_of(each.message_id)):
        run = list(group)
        given = restored(run[0], NAME, _written(run))
        made += [(entry_id if n == 0 else f"{entry_id}#{n}", each) for n, each in enumerate(given)]
    return made


def messages_of(item: Any, entry_id: str, clock: Clock = utc_now) -> list[Message]:
    """Return new messages that say what a request or a response says, which is given as JSON. The first has its id."""
    given = _without_none(p.given_object(item, "message"))
    said = list(map(_request_part, given["parts"])) if given["kind"] == "request" else [_response(given["parts"])]
    made: list[Message] = []
    for fields in [each for each in said if each] or [{"role": "assistant", "content": None}]:
        message_id = f"{entry_id}#pydantic_ai.{len(made)}" if made else entry_id
        made.append(Message(**fields, message_id=message_id, timestamp=_time_of(given, clock)))
    keep_difference(made[0], NAME, _written(made), [given])
    return made


def _without_none(item: p.Part) -> p.Part:
    """Return a message without the fields that are None, as those are that a release adds, and its parts as well."""
    made = {key: each for key, each in item.items() if each is not None}
    parts = [{key: each for key, each in one.items() if each is not None or key == "content"} for one in item["parts"]]
    return {**made, "parts": parts}


def _time_of(given: p.Part, clock: Clock) -> Any:
    times = [each.get("timestamp") for each in (given, *given["parts"])]
    with suppress(InvalidValueError):
        return check_time(next((each for each in times if each), None), "timestamp")
    return clock()


# Requests and responses, read -------------------------------------------------------------------------------------


def _request_part(part: p.Part) -> dict[str, Any] | None:
    """Return the fields of the message that a part of a request is; None if it says nothing to a model by itself."""
    kind, content = part["part_kind"], part.get("content")
    if kind == "system-prompt":
        return {"role": "system", "content": content}
    if kind == "user-prompt":
        return {"role": "user", "content": list(map(_part, content)) if is_array(content) else content}
    if kind == "tool-return" or (kind == "retry-prompt" and "tool_name" in part):
        about = {"tool_call_id": part["tool_call_id"], "name": part["tool_name"]}
        return {"role": "tool", "content": content, **about}
    if kind in ("retry-prompt", "retry-feedback"):
        return {"role": "user", "content": p.text_of(content)}
    return None


def _part(item: Any) -> p.Part:
    """Return a user's or a model's content as a part of a message."""
    if isinstance(item, str):
        return p.text_part(item)
    kind = item.get("kind")
    if kind == "binary":
        return p.media_part(p.Media(item["media_type"], item["data"].translate(_TO_STANDARD)))
    if kind == "image-url":
        return p.image_part(item["url"])
    if kind == "cache-point":
        return dict(_CACHE_POINT)
    return {"type": str(kind), "url": item["url"]} if "url" in item else {"type": str(kind)}


_CACHE_POINT = {"cachePoint": {"type": "default"}}
"""A mark that no model reads: Bedrock's format has it, others leave it out."""

_TO_STANDARD, _TO_URL_SAFE = str.maketrans("-_", "+/"), str.maketrans("+/", "-_")


def _response(parts: Sequence[p.Part]) -> dict[str, Any]:
    """Return the fields of the message that stores a response with these parts."""
    said: list[p.Part] = []
    calls: list[p.Part] = []
    for part in parts:
        kind: str = part["part_kind"]
        content: Any = part.get("content")
        if kind == "text":
            said.append(p.text_part(content))
        elif kind == "thinking":
            said.append(_thinking(part))
        elif kind == "file":
            said.append(_part(content))
        elif kind == "tool-call":
            arguments = part.get("args", "")
            calls.append(p.call_of(part["tool_call_id"], part["tool_name"], arguments, NAME, {}))
    single = len(said) == 1 and said[0].keys() == {"type", "text"}
    return {"role": "assistant", "content": said[0]["text"] if single else said or None, "tool_calls": calls or None}


def _thinking(part: p.Part) -> p.Part:
    """Return reasoning as a block that its own API alone is given again, and any other leaves out."""
    if part.get("provider_name") == "anthropic" and part.get("signature") and part["content"]:
        return {"type": "thinking", "thinking": part["content"], "signature": part["signature"]}
    return {"type": "reasoning", "summary": [{"type": "summary_text", "text": part["content"]}]}


# And written ------------------------------------------------------------------------------------------------------


def _written(messages: Sequence[Message]) -> list[p.Part]:
    """Write requests and responses from the messages' own fields alone."""
    said = [(each.message, message) for message in messages for each in prompt_messages(message)]
    made: list[p.Part] = []
    for is_response, group in groupby(said, lambda each: p.speaker(each[0]) == "assistant"):
        run = list(group)
        write_parts = _response_parts if is_response else _request_parts
        parts = [part for each, _ in run for part in write_parts(each)]
        if parts:
            time = run[0][1].timestamp.isoformat().replace("+00:00", "Z")
            made.append({"parts": parts, "timestamp": time, "kind": "response" if is_response else "request"})
    return made


def _request_parts(message: Message) -> list[p.Part]:
    role, time = p.speaker(message), message.timestamp.isoformat().replace("+00:00", "Z")
    if role in p.SYSTEM:
        text = "\n\n".join(p.text_of(each.get("text", "")) for each in p.parts_of(message))
        return [{"content": text, "timestamp": time, "part_kind": "system-prompt"}] if text else []
    if role == "tool":
        return [{
            "tool_name": message.name or "unknown",
            "content": message.content,
            "tool_call_id": message.tool_call_id or "",
            "timestamp": time,
            "part_kind": "tool-return",
        }]  # fmt: skip
    if role == "user" and isinstance(message.content, str):
        return [{"content": message.content, "timestamp": time, "part_kind": "user-prompt"}]
    parts = p.told_parts(message) if role == "other" else p.parts_of(message)
    content = [each for part in parts if (each := _content(part)) is not None]
    return [{"content": content, "timestamp": time, "part_kind": "user-prompt"}]


def _content(part: p.Part) -> Any:
    """Return a part of a message as a user's content; None if it is private."""
    if part["type"] in ("text", "refusal"):
        return p.text_of(part.get(part["type"], ""))
    if part.get("bedrock") == _CACHE_POINT:
        return {"kind": "cache-point"}
    media, url = p.media_of(part), p.url_of(part)
    if media is not None:
        return {"data": media.data.translate(_TO_URL_SAFE), "media_type": media.mime_type, "kind": "binary"}
    if part["type"] == "image_url" and url is not None and not url.startswith("data:"):
        return {"url": url, "kind": "image-url"}
    return p.left_out(part)


def _response_parts(message: Message) -> list[p.Part]:
    made: list[p.Part] = []
    for part in p.parts_of(message):
        kind = part["type"]
        if kind == "thinking":
            signed = {"signature": part["signature"], "provider_name": "anthropic"} if part.get("signature") else {}
            made.append({"content": p.text_of(part.get("thinking", "")), **signed, "part_kind": "thinking"})
        elif kind == "reasoning":
            texts = [p.text_of(p.native(each).get("text", "")) for each in part.get("summary") or ()]
            made.append({"content": "\n\n".join(texts), "part_kind": "thinking"})
        else:
            content = _content(part)
            if is_mapping(content) and "data" in content:
                made.append({"content": content, "part_kind": "file"})
            elif content is not None and (content or not message.tool_calls):
                made.append({"content": content if isinstance(content, str) else content["url"], "part_kind": "text"})
    return made + [
        {"tool_name": each.name, "args": each.arguments, "tool_call_id": each.id, "part_kind": "tool-call"}
        for each in p.calls_of(message)
    ]
