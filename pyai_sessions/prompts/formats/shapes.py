"""What a stored message says, whatever API's shape it has: the same in the shape that formats write.

`add_message` stores what it is given. A content may hold the tool calls and results of an API as blocks, a role may be
another API's name for it, a tool call may be a framework's. `told` translates all of that, and changes nothing stored:

- Anthropic: ``tool_use``, ``tool_result``, ``image``, ``document``
- OpenAI's Responses: ``input_text``, ``output_text``, ``input_image``, ``input_file``, ``function_call`` and
  ``function_call_output``, ``reasoning``
- Gemini: ``function_call``, ``function_response`` and other parts without a ``type``, in snake_case or camelCase
- Bedrock's Converse: ``toolUse``, ``toolResult`` and other blocks without a ``type``
- tool calls of LangChain (``{"name", "args", "id"}``), Vercel's AI SDK (``tool-call``, ``tool-result``), and Ollama,
  whose calls have no id: a result then answers the first call of its name that waits
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.values.json import is_array, is_mapping
from pyai_sessions.values.messages import Message

Block = Mapping[str, Any]


@dataclass(slots=True, eq=False)
class Told:
    """What a stored message says, or a part of it.

    Attributes:
        message: It, in the shape that formats write. Its role is one of the five, or one that no API knows.
        source: The stored message; None for what no message says, as the result of a call that was interrupted.
        blocks: Which blocks of the stored content say it; None: all of the message.
        call_blocks: For each tool call, which block says it; empty where the calls are no blocks.
        unnamed: Ids of the tool calls that have none of their own.
        kept: Which of its tool calls are left, once some were taken out; None: all.
        given: How it is given where messages are given as they were added, if no message says it.

    """

    message: Message
    source: Message | None
    blocks: tuple[int, ...] | None = None
    call_blocks: tuple[int, ...] = ()
    unnamed: frozenset[str] = frozenset()
    kept: tuple[int, ...] | None = None
    given: Message | None = None

    def with_calls(self, kept: Sequence[int]) -> Told | None:
        """Return it with these of its tool calls alone; None where nothing is left of it."""
        calls = self.message.tool_calls or ()
        if len(kept) == len(calls):
            return self
        if not kept and self.message.content in (None, "", []):
            return None
        blocks = self.blocks
        if self.call_blocks and self.source is not None:
            gone = {each for n, each in enumerate(self.call_blocks) if n not in kept}
            every = range(len(self.source.content)) if blocks is None else blocks
            blocks = tuple(n for n in every if n not in gone)
        message = altered(self.message, tool_calls=[calls[n] for n in kept] or None)
        return replace(self, message=message, blocks=blocks, kept=tuple(kept))


def joined(told: Sequence[Told]) -> tuple[Any, Any]:
    """Return the content and the tool calls of a stored message of which only this is left: as they were stored."""
    source = told[0].source
    if source is None:
        return None, None
    content, calls = source.content, source.tool_calls
    if all(each.blocks is not None for each in told):
        left = sorted(n for each in told for n in each.blocks or ())
        content = [content[n] for n in left] if len(left) < len(content) else content
    for each in told:
        if each.kept is not None and calls:
            named = {call.get("id") for call in each.message.tool_calls or ()}
            calls = (
                [call for call in calls if p.native(call).get("id") in named]
                if each.call_blocks
                else [calls[n] for n in each.kept]
            )
    return content, calls or None


INTERRUPTED = "[interrupted: this call has no result, and whether it took effect is not known]"


def interrupted(caller: Told, n: int) -> Told:
    """Return the result of a call, the one in place *n*, that was interrupted."""
    call = p.calls_of(caller.message)[n]
    own_id = p.native(p.native(call.stored.get("gemini")).get("function_call")).get("id")
    metadata: dict[str, Any] = {"anthropic": {"tool_result": {"is_error": True}}}
    if own_id:
        metadata["gemini"] = {"function_response": {"id": own_id}}
    fields: dict[str, Any] = {"role": "tool", "tool_calls": None, "name": None, "content": INTERRUPTED}
    message = altered(caller.message, **fields, tool_call_id=call.id, metadata=metadata)
    block: Block = caller.source.content[caller.call_blocks[n]] if caller.call_blocks and caller.source else {}
    make = _INTERRUPTED.get(_kind(block))
    if make is not None:
        content = [make(call.id, call.name)]
        return Told(message, None, given=altered(message, role="user", tool_call_id=None, content=content))
    if call.id in caller.unnamed:
        return Told(message, None, given=altered(message, tool_call_id=None, name=call.name))
    return Told(message, None)


_INTERRUPTED: dict[str | None, Callable[[str, str], dict[str, Any]]] = {
    "tool_use": lambda call_id, _: {
        "type": "tool_result",
        "tool_use_id": call_id,
        "content": INTERRUPTED,
        "is_error": True,
    },
    "toolUse": lambda call_id, _: {
        "toolResult": {"toolUseId": call_id, "content": [{"text": INTERRUPTED}], "status": "error"}
    },
    "functionCall": lambda _, name: {"functionResponse": {"name": name, "response": {"error": INTERRUPTED}}},
}


_PLAIN = frozenset({"user", "assistant", "system", "developer"})


def told(message: Message, speakers: Mapping[str, str] | None = None) -> Sequence[Told]:
    """Return what a message says: one, or, where its content holds results of tools, each of these and the rest.

    *speakers* says what roles mean, before the names that are known.
    """
    role, content, calls = message.role, message.content, message.tool_calls
    if type(content) is str and calls is None and not speakers and role in _PLAIN and message.tool_call_id is None:
        return (Told(message, message),)  # nearly all are so
    meant = _role(message, speakers)
    if calls is None and (type(content) is str or content is None):
        return (Told(message if meant == role else altered(message, role=meant), message),)
    if meant != "tool" and is_mapping(content) and _kind(content) is not None:
        content = [content]
    if is_array(content) and is_foreign(content, meant):
        return _from_blocks(message, content, meant)
    return (_with_calls(message, meant),)


def altered(message: Message, **fields: Any) -> Message:
    """Return a copy of a message with other fields, which are neither checked nor frozen: it is not to be stored."""
    made = Message.__new__(Message)
    vars(made).update(vars(message), **fields)  # the constructor would copy the content
    return made


def _role(message: Message, speakers: Mapping[str, str] | None) -> str:
    role = message.role
    if speakers and role in speakers:
        return role if speakers[role] == "told" else speakers[role]
    meant = p.role_of(role)
    if message.tool_call_id is not None:
        return "tool"
    return meant or ("assistant" if message.tool_calls else role)


# Tool calls -------------------------------------------------------------------------------------------------------


def _with_calls(message: Message, role: str) -> Told:
    """Return a message whose tool calls are in whatever shape."""
    calls: list[Any] = []
    unnamed: list[str] = []
    for n, each in enumerate(message.tool_calls or ()):
        found = call(each)
        if found is not None and not found.get("id"):
            found = {**found, "id": f"{message.message_id}.{n}"}
            unnamed.append(found["id"])
        calls.append(each if found is None else found)
    if role == message.role and all(made is each for made, each in zip(calls, message.tool_calls or (), strict=True)):
        return Told(message, message)
    fields = {"tool_calls": calls} if calls else {}
    return Told(altered(message, role=role, **fields), message, unnamed=frozenset(unnamed))


def call(value: object) -> Any:
    """Return a tool call of any shape as it is stored, without an id where it has none; None if it is no call."""
    if not is_mapping(value):
        return None
    if is_mapping(value.get("function")) or is_mapping(value.get("custom")):
        return value
    found = _call_block(value)
    if found is None and isinstance(value.get("name"), str):
        found = _named_call(value, "")
    return found


def _call_block(block: Block) -> dict[str, Any] | None:
    kind = _kind(block)
    return _CALLS[kind](block) if kind in _CALLS else None


def _named_call(block: Block, api: str) -> dict[str, Any]:
    """Return the call of a block, whichever names its fields have."""
    keys = ("id", "name", *_ARGUMENTS)
    call_id = _text(_first(block, "call_id", "toolUseId", "toolCallId", "tool_call_id", "id"))
    name = _text(_first(block, "name", "toolName"))
    arguments = _first(block, *_ARGUMENTS)
    own = p.rest_of(block, "type", *keys) if api else {}
    made = p.call_of(call_id or "", name or "unknown", {} if arguments is None else arguments, api, own)
    return made if call_id else p.rest_of(made, "id")


_ARGUMENTS = ("args", "arguments", "input", "parameters")


def _first(block: Block, *keys: str) -> Any:
    return next((block[key] for key in keys if block.get(key) is not None), None)


def _gemini_call(block: Block) -> dict[str, Any]:
    from pyai_sessions.prompts.formats import gemini

    part = gemini.snake(block)
    call = p.native(part["function_call"])
    inner = p.rest_of(call, "name", "args")
    own = {**p.rest_of(part, "function_call"), **({"function_call": inner} if inner else {})}
    call_id = _text(call.get("id"))
    made = p.call_of(call_id or "", _text(call.get("name")) or "unknown", call.get("args") or {}, "gemini", own)
    return made if call_id else p.rest_of(made, "id")


_CALLS: dict[str | None, Callable[[Block], dict[str, Any]]] = {
    "tool_use": lambda block: _named_call(block, "anthropic"),
    "function_call": lambda block: _named_call(block, ""),
    "custom_tool_call": lambda block: _named_call({**block, "input": {"input": block.get("input")}}, ""),
    "tool_call": lambda block: _named_call(block, ""),
    "tool-call": lambda block: _named_call(block, ""),
    "toolUse": lambda block: _named_call(p.native(block["toolUse"]), ""),
    "functionCall": _gemini_call,
}


# Results ----------------------------------------------------------------------------------------------------------


class _Result(NamedTuple):
    call_id: str | None
    content: Any
    metadata: Mapping[str, Any] = {}
    name: str | None = None


def _anthropic_result(block: Block) -> _Result:
    own = p.rest_of(block, "type", "tool_use_id", "content")
    content = block.get("content")
    parts = [_part(each) for each in content] if is_array(content) and all(map(p.is_part, content)) else content
    return _Result(_text(block.get("tool_use_id")), parts, {"anthropic": {"tool_result": own}} if own else {})


def _responses_result(block: Block) -> _Result:
    output = block.get("output")
    parts = [_part(each) for each in output] if is_array(output) and all(map(p.is_part, output)) else output
    return _Result(_text(block.get("call_id")), parts)


def _vercel_result(block: Block) -> _Result:
    output = _first(block, "output", "result")
    value = output["value"] if is_mapping(output) and "type" in output and "value" in output else output
    return _Result(_text(block.get("toolCallId")), value, name=_text(block.get("toolName")))


def _bedrock_result(block: Block) -> _Result:
    result = p.native(block["toolResult"])
    content = result.get("content")
    parts = [_bedrock_result_part(each) for each in content] if is_array(content) else content
    failed = {"anthropic": {"tool_result": {"is_error": True}}} if result.get("status") == "error" else {}
    return _Result(_text(result.get("toolUseId")), parts, failed)


def _bedrock_result_part(value: object) -> Any:
    if is_mapping(value) and "json" in value:
        return p.text_part(p.text_of(value["json"]))
    return _part(value) if is_mapping(value) else value


def _gemini_result(block: Block) -> _Result:
    from pyai_sessions.prompts.formats import gemini

    part = gemini.snake(block)
    given = p.native(part["function_response"])
    inner, outer = p.rest_of(given, "name", "response"), p.rest_of(part, "function_response")
    own = {**({"function_response": inner} if inner else {}), **({"part": outer} if outer else {})}
    content = gemini.result(given.get("response"))
    return _Result(_text(given.get("id")), content, {"gemini": own} if own else {}, _text(given.get("name")))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


_RESULTS: dict[str | None, Callable[[Block], _Result]] = {
    "tool_result": _anthropic_result,
    "function_call_output": _responses_result,
    "custom_tool_call_output": _responses_result,
    "tool-result": _vercel_result,
    "toolResult": _bedrock_result,
    "functionResponse": _gemini_result,
}


# Other blocks -----------------------------------------------------------------------------------------------------

_UNTYPED = {
    "toolUse": "toolUse",
    "toolResult": "toolResult",
    "reasoningContent": "bedrock",
    "cachePoint": "bedrock",
    "guardContent": "bedrock",
    "functionCall": "functionCall",
    "function_call": "functionCall",
    "functionResponse": "functionResponse",
    "function_response": "functionResponse",
    "inlineData": "gemini",
    "inline_data": "gemini",
    "fileData": "gemini",
    "file_data": "gemini",
    "executableCode": "gemini",
    "executable_code": "gemini",
    "codeExecutionResult": "gemini",
    "code_execution_result": "gemini",
}
"""What a block without a type is, by a key of it."""

_BEDROCK_MEDIA = ("image", "document", "video")


def _kind(block: Block) -> str | None:
    """Return what a block is: its type, or that of one without; None if it is no block that an API uses."""
    kind = block.get("type")
    if isinstance(kind, str):
        return kind
    found = next((_UNTYPED[key] for key in block if key in _UNTYPED), None)
    if found is not None:
        return found
    if isinstance(block.get("text"), str) and block.keys() <= {
        "text",
        "thought",
        "thoughtSignature",
        "thought_signature",
    }:
        return "untyped"
    if len(block) == 1 and any("source" in p.native(block.get(key)) for key in _BEDROCK_MEDIA):
        return "bedrock"
    return None


def _responses_image(block: Block) -> Any:
    url = _text(block.get("image_url"))
    if url is None:
        return None
    detail = {"detail": block["detail"]} if isinstance(block.get("detail"), str) else {}
    return {"type": "image_url", "image_url": {"url": url, **detail}}


def _responses_file(block: Block) -> Any:
    file = {key: block[key] for key in ("file_id", "file_data", "filename") if block.get(key) is not None}
    return {"type": "file", "file": file}


def _responses_text(block: Block) -> Any:
    text = _text(block.get("text"))
    return None if text is None else p.text_part(text)


def _bedrock_part(block: Block) -> Any:
    if "reasoningContent" in block:
        return {"type": "reasoning", **block}
    kind = next((each for each in _BEDROCK_MEDIA if each in block), None)
    given = p.native(block.get(kind or ""))
    form, data = given.get("format"), p.native(given.get("source")).get("bytes")
    if kind is None or not isinstance(data, str) or not isinstance(form, str):
        return {"type": next(iter(block)), **block}
    top = {"image": "image", "video": "video"}.get(kind, "application" if form == "pdf" else "text")
    return p.media_part(p.Media(f"{top}/{form}", data), given.get("name"))


def _gemini_part(block: Block) -> Any:
    from pyai_sessions.prompts.formats import gemini

    return gemini.stored_part(gemini.snake(block))


def _anthropic_part(block: Block) -> Any:
    from pyai_sessions.prompts.formats import anthropic

    return anthropic.stored_part(dict(block))


_PARTS: dict[str | None, Callable[[Block], Any]] = {
    "input_text": _responses_text,
    "output_text": _responses_text,
    "summary_text": _responses_text,
    "input_image": _responses_image,
    "input_file": _responses_file,
    "image": _anthropic_part,
    "document": _anthropic_part,
    "gemini": _gemini_part,
    "untyped": _gemini_part,
    "bedrock": _bedrock_part,
}


def _part(block: Block) -> Any:
    """Return a block of a content as the part that formats write; as it is, where it means nothing else."""
    kind = _kind(block)
    if kind == "gemini" and "type" in block:  # stored so by us
        return block
    try:
        made = _PARTS[kind](block) if kind in _PARTS else None
    except (InvalidValueError, KeyError, TypeError, ValueError):  # it only looks like such a block
        made = None
    return block if made is None else made


def is_call(block: Block) -> bool:
    """Return whether a block of a content is a call of a tool."""
    return _kind(block) in _CALLS


def holds_results(content: object) -> bool:
    """Return whether a content holds results of tools as blocks."""
    return is_array(content) and any(is_mapping(each) and _kind(each) in _RESULTS for each in content)


# Contents ---------------------------------------------------------------------------------------------------------

_FOREIGN = frozenset({*_CALLS, *_RESULTS, *_PARTS})


def is_foreign(content: object, role: str) -> bool:
    """Return whether a content is made of blocks, and some are no parts that formats write."""
    if not is_array(content) or not content:
        return False
    kinds = [_kind(each) if is_mapping(each) else None for each in content]
    if None in kinds or (role == "tool" and not any(kind in _RESULTS for kind in kinds)):
        return False
    return any(kind in _FOREIGN and not _is_ours(each, kind) for each, kind in zip(content, kinds, strict=True))


def _is_ours(block: Block, kind: str | None) -> bool:
    return kind == "gemini" and "type" in block


def _from_blocks(message: Message, content: Sequence[Any], role: str) -> Sequence[Told]:
    """Return what the blocks of a content say: results first in a user's message, as APIs ask; else in order."""
    made: list[Told] = []
    rest: list[int] = []
    for n, block in enumerate(content):
        kind = _kind(block)
        if kind in _RESULTS:
            if rest and role != "user":
                made.append(_rest(message, content, rest, role))
                rest = []
            made.append(_result(message, block, n))
        else:
            rest.append(n)
    if rest or not made:
        made.append(_rest(message, content, rest, role, last=True))
    if len(made) == 1:
        only = made[0]
        return (Told(only.message, message, None, only.call_blocks, only.unnamed),)
    return made


def _result(message: Message, block: Block, n: int) -> Told:
    call_id, content, metadata, name = _RESULTS[_kind(block)](block)
    fields = {"role": "tool", "content": content, "metadata": metadata, "tool_calls": None}
    return Told(altered(message, tool_call_id=call_id, name=name, **fields), message, (n,))


def _rest(message: Message, content: Sequence[Any], blocks: Sequence[int], role: str, *, last: bool = False) -> Told:
    """Return what blocks that are no results say: parts, and calls; those beside the content are the last one's."""
    calls: list[Any] = []
    call_blocks: list[int] = []
    unnamed: list[str] = []
    parts: list[Any] = []
    for n in blocks:
        call = _call_block(content[n])
        if call is None:
            if "cachePoint" not in content[n]:
                parts.append(_part(content[n]))
            continue
        if not call.get("id"):
            call = {**call, "id": f"{message.message_id}.{n}"}
            unnamed.append(call["id"])
        calls.append(call)
        call_blocks.append(n)
    metadata = dict(message.metadata)
    if calls:
        for api in ("anthropic", "gemini"):
            places = p.call_places([n in call_blocks for n in blocks])
            if places and any(_kind(content[n]) == _NATIVE_CALL[api] for n in call_blocks):
                metadata[api] = {**p.native(metadata.get(api)), **places}
    elif last and message.tool_calls:
        beside = _with_calls(message, role)
        return Told(altered(beside.message, role=role, content=parts), message, tuple(blocks), unnamed=beside.unnamed)
    if role not in ("user", "assistant", "system", "developer") and calls:
        role = "assistant"
    fields = {"role": role, "content": parts or None, "metadata": metadata, "tool_calls": calls or None}
    return Told(
        altered(message, tool_call_id=None, **fields), message, tuple(blocks), tuple(call_blocks), frozenset(unnamed)
    )


_NATIVE_CALL = {"anthropic": "tool_use", "gemini": "functionCall"}
