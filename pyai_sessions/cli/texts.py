"""What a message says, as blocks that people read: text, thoughts, calls of tools, their results, images and files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from pyai_sessions.cli.output import one_line

if TYPE_CHECKING:
    from pyai_sessions import Message

_TITLE = 80
"""Characters of a call's arguments that its folded line shows."""


class Block(NamedTuple):
    """A part of what a message says.

    Attributes:
        kind: ``"text"`` is Markdown; ``"folded"`` has a title, and a text that is shown when it is opened; ``"media"``
            is an image or a file, of which only the title is shown.
        title: The line of a block that is no text.
        text: What it says.

    """

    kind: Literal["text", "folded", "media"]
    title: str
    text: str


def blocks_of(message: Message) -> Iterator[Block]:
    """Iterate over the blocks of a message, whatever API its content comes from."""
    if message.role == "tool":
        yield Block(
            "folded", f"{message.name or 'The tool'} returned: {_begin(message.content)}", _text(message.content)
        )
    else:
        yield from _blocks(message.content)
    for call in message.tool_calls or ():
        yield _call(call)


def _blocks(content: object) -> Iterator[Block]:
    if isinstance(content, str):
        if content:
            yield Block("text", "", content)
    elif isinstance(content, Sequence):
        for part in cast("Sequence[object]", content):
            yield from _part(cast("Mapping[str, Any]", part)) if isinstance(part, Mapping) else _blocks(part)
    elif content is not None:
        yield Block("text", "", _text(content))


def _part(part: Mapping[str, Any]) -> Iterator[Block]:
    kind = part.get("type")
    if isinstance(part.get("text"), str) and kind in (None, "text", "input_text", "output_text"):
        yield Block("text", "", part["text"])
    elif kind in ("thinking", "reasoning", "redacted_thinking"):
        thought = part.get("thinking") or part.get("summary") or part.get("text") or ""
        yield Block("folded", "Thought", "\n".join(each.text for each in _blocks(thought)) or _text(thought))
    elif kind == "summary_text":
        yield Block("text", "", str(part.get("text", "")))
    elif kind in ("tool_use", "function_call", "tool_call"):
        yield _call(part)
    elif kind in ("tool_result", "function_call_output"):
        result = part.get("content", part.get("output"))
        yield Block("folded", f"The tool returned: {_begin(result)}", _text(result))
    elif kind == "refusal":
        yield Block("text", "", str(part.get("refusal", "")))
    else:
        name = part.get("file_name") or part.get("filename") or part.get("name") or part.get("asset_pointer")
        yield Block("media", one_line(f"[{kind or 'part'}{f' {name}' if isinstance(name, str) else ''}]"), "")


def _call(call: object) -> Block:
    given = cast("Mapping[str, Any]", call) if isinstance(call, Mapping) else {"name": str(call)}
    inner = given.get("function")
    inside = cast("Mapping[str, Any]", inner) if isinstance(inner, Mapping) else given
    arguments: Any = next((inside[name] for name in ("arguments", "args", "input") if name in inside), None)
    if isinstance(arguments, str):
        with suppress(ValueError):
            arguments = json.loads(arguments)
    name = one_line(inside.get("name", "a tool"))
    return Block("folded", f"calls {name}({_begin(arguments)})", _text(arguments))


def _text(value: object) -> str:
    """Return a value as text: texts as they are, parts one below the other, all else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and all(isinstance(each, Mapping) for each in cast("Sequence[object]", value)):
        return "\n".join(each.text or each.title for each in _blocks(cast("Sequence[object]", value)))
    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def _begin(value: object) -> str:
    text = one_line(value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False))
    return text if len(text) <= _TITLE else f"{text[: _TITLE - 1]}…"


def plain(value: Any) -> Any:
    """Return JSON that a message holds, which cannot be changed, as dicts and lists."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [*map(plain, cast("Sequence[object]", value))]
    return value
