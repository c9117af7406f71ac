"""The texts of a message: what was said in it, and what tools were asked and answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyai_sessions.values.json import is_array, is_mapping
from pyai_sessions.values.messages import Message

_TOOL_ROLES = ("tool", "function")

_TOOL_PARTS = ("tool", "function", "computer", "code_execution", "bash", "mcp", "web_search", "file_search")
"""How the types of parts begin that hold calls of tools and their results: ``tool_use``, ``function_call_output``."""

_TOOL_FIELDS = ("function_call", "functionCall", "function_response", "functionResponse", "toolUse", "toolResult")
"""Fields of a part that hold a call of a tool or its result, as Gemini and Bedrock have them."""

_DATA = frozenset(
    {"data", "bytes", "type", "id", "tool_use_id", "toolUseId", "call_id", "url", "image_url", "signature"}
)
"""Fields of JSON that hold no words."""


def texts_of(message: Message, *, tools: bool = False) -> list[str]:
    """Return the texts of a message, in order: of its content, or of the parts of its content.

    With *tools* also the calls of tools that it asks for, and the results that it brings.
    """
    is_result = message.tool_call_id is not None or message.role in _TOOL_ROLES
    if is_result and not tools:
        return []
    content = message.content
    found = [content] if isinstance(content, str) else list((_all_texts if is_result else _said)(content, tools=tools))
    if tools and message.tool_calls:
        found += _all_texts(message.tool_calls)
    return [each for each in found if each]


def _said(content: Any, *, tools: bool) -> Iterator[str]:
    """Iterate over the texts of a content that is no plain text: those of its parts, and what Gemini nests."""
    parts = content if is_array(content) else [content]
    for part in parts:
        if isinstance(part, str):
            yield part
        elif is_mapping(part):
            if _is_of_tool(part):
                if tools:
                    yield from _all_texts(part)
                continue
            for name in ("text", "refusal"):
                if isinstance(part.get(name), str):
                    yield part[name]
            for name in ("parts", "content"):
                if is_array(part.get(name)):
                    yield from _said(part[name], tools=tools)


def _is_of_tool(part: Mapping[str, Any]) -> bool:
    kind = part.get("type")
    if isinstance(kind, str) and (kind.startswith(_TOOL_PARTS) or kind.endswith(("_call", "_call_output"))):
        return True
    return any(name in part for name in _TOOL_FIELDS)


def _all_texts(value: Any, *, tools: bool = True) -> Iterator[str]:
    """Iterate over all texts in a JSON value, but those of fields that hold no words."""
    if isinstance(value, str):
        yield value
    elif is_mapping(value):
        for name, each in value.items():
            if name not in _DATA:
                yield from _all_texts(each, tools=tools)
    elif is_array(value):
        for each in value:
            yield from _all_texts(each, tools=tools)
