"""Conversations as data sets have them: ShareGPT's `conversations`, or `messages`, in an array or in lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from pyai_sessions.cli.sources.reading import (
    Broken,
    Found,
    Item,
    UnreadableError,
    each_read,
    given,
    items,
    listed,
    mapping,
    session_of,
    text_of,
)

_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function": "tool",
    "observation": "tool",
    "function_call": "assistant",
}


def sessions(file: IO[str]) -> Iterator[Found | Broken]:
    """Iterate over the conversations. One without an id gets an id that is computed from its words."""
    return each_read((_as_object(item) for item in items(file)), _session)


def _as_object(item: Item | Broken) -> Item | Broken:
    """Return the conversation as an object; a bare list of messages becomes its ``messages``."""
    if isinstance(item, Broken):
        return item
    value: object = item.value
    if isinstance(value, list):
        return Item(item.place, {"messages": item.value})
    return item


def _session(found: Mapping[str, Any]) -> dict[str, Any]:
    spoken = found.get("conversations") or found.get("messages") or found.get("conversation")
    messages = [_message(each) for each in listed(spoken, "conversations")]
    if not messages:
        msg = "it has neither conversations nor messages"
        raise UnreadableError(msg)
    system = found.get("system") or found.get("system_prompt")
    if isinstance(system, str) and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    name = found.get("id") or found.get("conversation_id")
    if not isinstance(name, (str, int)):
        name = hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:24]
    return session_of(
        f"sharegpt-{name}", "sharegpt", messages, title=found.get("title"), metadata={"tools": found.get("tools")}
    )


def _message(value: object) -> dict[str, Any]:
    message = mapping(value, "a message")
    role = text_of(message.get("from") or message.get("role"), "from")
    content = message["value"] if "value" in message else message.get("content")
    return given(
        role=_ROLES.get(role, role),
        content="" if content is None else content,
        tool_calls=message.get("tool_calls"),
        tool_call_id=message.get("tool_call_id"),
        name=message.get("name"),
    )
