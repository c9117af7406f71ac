"""Blocks of a content, in the shape of any API, as tool calls, results and parts.

- Anthropic: ``tool_use``, ``tool_result``, ``image``, ``document``
- OpenAI's Responses: ``input_text``, ``output_text``, ``input_image``, ``input_file``, ``function_call`` and
  ``function_call_output``, ``reasoning``
- Gemini: ``function_call``, ``function_response`` and other parts without a ``type``, in snake_case or camelCase
- Bedrock's Converse: ``toolUse``, ``toolResult`` and other blocks without a ``type``
- tool calls of LangChain (``{"name", "args", "id"}``), Vercel's AI SDK (``tool-call``, ``tool-result``), and Ollama,
  whose calls have no id: a result then answers the first call of its name that waits
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.values.json import is_array, is_mapping

Block = Mapping[str, Any]


def _snake(block: Block) -> Any:
    return p.module_of("gemini").snake(block)


# Tool calls -------------------------------------------------------------------------------------------------------


def call(value: object) -> Any:
    """Return a tool call of any shape as it is stored, with no id if it has none; None if it is not a call."""
    if not is_mapping(value):
        return None
    if is_mapping(value.get("function")) or is_mapping(value.get("custom")):
        return value
    found = call_block(value)
    if found is None and isinstance(value.get("name"), str):
        found = _named_call(value, "")
    return found


def call_block(block: Block) -> dict[str, Any] | None:
    """Return a block as a tool call, or None if it is something else."""
    kind = block_kind(block)
    return _CALLS[kind](block) if kind in _CALLS else None


def _named_call(block: Block, api: str) -> dict[str, Any]:
    """Return the tool call that a block is, under any of the names that its fields may have."""
    keys = ("id", "name", *_ARGUMENTS)
    call_id = _first(block, "call_id", "toolUseId", "toolCallId", "tool_call_id", "id")
    arguments = _first(block, *_ARGUMENTS)
    own = p.rest_of(block, "type", *keys) if api else {}
    return p.call_of(call_id, _first(block, "name", "toolName"), {} if arguments is None else arguments, api, own)


_ARGUMENTS = ("args", "arguments", "input", "parameters")


def _first(block: Block, *keys: str) -> Any:
    return next((block[key] for key in keys if block.get(key) is not None), None)


_CALLS: dict[str | None, Callable[[Block], dict[str, Any]]] = {
    "tool_use": lambda block: _named_call(block, "anthropic"),
    "function_call": lambda block: p.module_of("responses").call(block),
    "custom_tool_call": lambda block: p.module_of("responses").call(block),
    "tool_call": lambda block: _named_call(block, ""),
    "tool-call": lambda block: _named_call(block, ""),
    "toolUse": lambda block: p.module_of("bedrock").call(block),
    "functionCall": lambda block: p.module_of("gemini").call(_snake(block)),
}


# Results ----------------------------------------------------------------------------------------------------------


def _anthropic_result(block: Block) -> p.Result:
    made: p.Result = p.module_of("anthropic").result(block, _parts_of(block.get("content")))
    return made._replace(tool_call_id=_text(made.tool_call_id))


def _parts_of(content: object) -> Any:
    return [block_part(each) for each in content] if is_array(content) and all(map(p.is_part, content)) else content


def _vercel_result(block: Block) -> p.Result:
    output = _first(block, "output", "result")
    value = output["value"] if is_mapping(output) and "type" in output and "value" in output else output
    return p.Result(_text(block.get("toolCallId")), value, name=_text(block.get("toolName")))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


RESULTS: dict[str | None, Callable[[Block], p.Result]] = {
    "tool_result": _anthropic_result,
    "function_call_output": lambda block: p.module_of("responses").result(block),
    "custom_tool_call_output": lambda block: p.module_of("responses").result(block),
    "tool-result": _vercel_result,
    "toolResult": lambda block: p.module_of("bedrock").result(block),
    "functionResponse": lambda block: p.module_of("gemini").result(_snake(block)),
}


# Other blocks -----------------------------------------------------------------------------------------------------

_UNTYPED = {
    "toolUse": "toolUse",
    "toolResult": "toolResult",
    "reasoningContent": "bedrock",
    "cachePoint": "bedrock",
    "guardContent": "bedrock",
    "searchResult": "bedrock",
    "citationsContent": "bedrock",
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
"""The kind of a block that has no type, by one of its keys."""

_BEDROCK_MEDIA = ("image", "document", "video", "audio")


def block_kind(block: Block) -> str | None:
    """Return the kind of a block: its type, or a name for blocks without one; None if no API has such a block."""
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


def _responses_part(block: Block) -> Any:
    return p.module_of("responses").stored_part(block)


_PARTS: dict[str | None, Callable[[Block], Any]] = {
    "input_text": _responses_part,
    "output_text": _responses_part,
    "summary_text": lambda block: p.text_part(block["text"]),
    "input_image": _responses_part,
    "input_file": _responses_part,
    "image": lambda block: p.module_of("anthropic").stored_part(dict(block)),
    "document": lambda block: p.module_of("anthropic").stored_part(dict(block)),
    "gemini": lambda block: p.module_of("gemini").stored_part(_snake(block)),
    "untyped": lambda block: p.module_of("gemini").stored_part(_snake(block)),
    "bedrock": lambda block: p.module_of("bedrock").stored_part(block),
}


def block_part(block: Block) -> Any:
    """Return a block as the part that formats write, or the block itself if it is not of a known kind."""
    kind = block_kind(block)
    if _is_ours(block, kind):
        return block
    try:
        made = _PARTS[kind](block) if kind in _PARTS else None
    except (InvalidValueError, KeyError, TypeError, ValueError):  # it only looks like such a block
        made = None
    return block if made is None else made


def holds_results(content: object) -> bool:
    """Return whether some blocks of a content are results of tools."""
    return is_array(content) and any(is_mapping(each) and block_kind(each) in RESULTS for each in content)


_FOREIGN = frozenset({*_CALLS, *RESULTS, *_PARTS})


def is_foreign(content: object, role: str) -> bool:
    """Return whether a content is a list of blocks of which at least one has to be translated."""
    if not is_array(content) or not content:
        return False
    kinds = [block_kind(each) if is_mapping(each) else None for each in content]
    if None in kinds or (role == "tool" and not any(kind in RESULTS for kind in kinds)):
        return False
    return any(kind in _FOREIGN and not _is_ours(each, kind) for each, kind in zip(content, kinds, strict=True))


def _is_ours(block: Block, kind: str | None) -> bool:
    """Return whether a block is a part that only one API knows, as this library stores it."""
    return kind in p.APIS and "type" in block
