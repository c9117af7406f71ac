"""Bedrock's Converse, as boto3 takes it: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html.

::

    {"role": "user", "content": [
        {"toolResult": {"toolUseId": text, "content": [{"text": text} | {"json": object}, ...], "status"?: text}},
        {"text": text}, ...]}
    {"role": "assistant", "content": [
        {"text": text}, {"toolUse": {"toolUseId": text, "name": text, "input": object}}, ...]}
    system: [{"text": text}]

Images and other data are `bytes`, as boto3 takes them; they are stored as base64, which is read, too.

As it is stored, and back:

- ``toolUse`` is a tool call, its input JSON text. A ``toolResult`` is a tool's message. A single text or JSON object in
  it is the message's content; what it says besides (``status``) is in ``metadata["bedrock"]["tool_result"]``. What
  else is in the user's content follows as a user's message.
- ``image`` is image_url, ``audio`` is input_audio, ``document`` is a file, where nothing is lost by that. Reasoning,
  cache points and all other blocks are kept under ``"bedrock"``. Where calls stand among an assistant's blocks is in
  ``metadata["bedrock"]["calls_at"]``, if they are not the last.
- System messages that open the conversation are the system text. A later one is told as a user's message that begins
  with ``[system]``; other roles in the same way: ``[critic]``.
- Neighbours of one role are one message, results first: the API wants turns of user and assistant.
- Blank text is left out, since the API refuses it; a user's message with nothing left is ``[empty message]``. A message
  of another role with nothing left is left out. A document stands beside a text, ``[a document]`` if there is none; its
  name has the characters that the API takes.
- A call whose arguments are not a JSON object gets the input ``{"arguments": "<the text>"}``. Ids are of letters,
  digits, ``_`` and ``-``, each used once. Authors' names are left out.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats import turns
from pyai_sessions.values.checks import Clock, check_text, shown
from pyai_sessions.values.json import is_array, is_mapping, thawed
from pyai_sessions.values.messages import Message

_IMAGES = frozenset({"png", "jpeg", "gif", "webp"})
_AUDIO = frozenset({"mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "m4a", "webm"})
_OFFICE = "application/vnd.openxmlformats-officedocument"
_DOCUMENTS = {
    "pdf": "application/pdf",
    "csv": "text/csv",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
    "doc": "application/msword",
    "xls": "application/vnd.ms-excel",
    "docx": f"{_OFFICE}.wordprocessingml.document",
    "xlsx": f"{_OFFICE}.spreadsheetml.sheet",
}
_DOCUMENT_FORMATS = {mime_type: form for form, mime_type in _DOCUMENTS.items()}
_MAX_NAME = 64
_MAX_ID = 64
_MAX_TITLE = 200
_DATA = ("bytes", "redactedContent")
_FREE = ("input", "json")
"""Fields whose keys are the users' own."""

DOCUMENT = "[a document]"
"""Said beside a document that comes without a text: the API asks for one."""


# Writing ----------------------------------------------------------------------------------------------------------


def write(messages: Sequence[Message]) -> tuple[list[p.Part], list[p.Part] | None]:
    """Return the messages of a call, and its system text."""
    opening, rest = turns.split_opening(messages)
    ids = p.CallIds(_MAX_ID, unique=True)
    said = turns.merged((_turn(each, ids) for each in rest), _is_result)
    items = [
        {"role": role, "content": [*blocks, *_beside(blocks)]}
        for role, blocks in turns.from_a_user(said, rest, lambda text: [{"text": text}])
    ]
    system = [block for each in opening for block in _written(p.parts_of(each), _SYSTEM)]
    written = thawed(items)
    _rename_twins(block for each in written for block in each["content"])
    return _as_bytes(written), _as_bytes(thawed(system)) or None


def _turn(message: Message, ids: p.CallIds) -> tuple[str, list[p.Part]]:
    kind = p.speaker(message)
    if kind == "assistant":
        calls = [_tool_use(each, ids) for each in p.calls_of(message)]
        return kind, turns.woven(_written(p.parts_of(message), _ASSISTANT), calls, message, "bedrock")
    if kind == "tool":
        return "user", [_tool_result(message, ids)]
    if kind == "user":
        return kind, _written(p.parts_of(message), _USER) or [{"text": p.EMPTY}]
    return "user", _written(p.told_parts(message), _USER)


def _tool_use(call: p.Call, ids: p.CallIds) -> p.Part:
    own = p.native(call.stored.get("bedrock"))
    given = {"toolUseId": ids.of_call(call.id), "name": p.fit(call.name, _MAX_NAME), "input": call.input}
    return {"toolUse": {**given, **own}}


def _tool_result(message: Message, ids: p.CallIds) -> p.Part:
    result = p.result_of(message)
    if is_mapping(result):
        content: Any = [{"json": result}]
    else:
        content = _written(result if is_array(result) else p.parts_of(message), _RESULT)
    given = {"toolUseId": ids.of_result(message.tool_call_id or ""), "content": content}
    failed = p.own_of(message, "anthropic", "tool_result").get("is_error") is True
    own = p.own_of(message, "bedrock", "tool_result")
    return {"toolResult": {**given, **({"status": "error"} if failed else {}), **own}}


def _is_result(block: p.Part) -> bool:
    return "toolResult" in block


def _beside(blocks: turns.Blocks) -> turns.Blocks:
    """Return the text that a document without one needs beside it."""
    alone = any("document" in each for each in blocks) and not any("text" in each for each in blocks)
    return [{"text": DOCUMENT}] if alone else []


def _rename_twins(blocks: Iterable[p.Part]) -> None:
    """Give documents of one name different ones: the API wants each name once in a call."""
    taken: set[str] = set()
    for block in blocks:
        for each in (block, *p.native(block.get("toolResult")).get("content", ())):
            name = p.native(each.get("document")).get("name")
            if isinstance(name, str):
                unique, n = name, 1
                while unique.casefold() in taken:
                    n += 1
                    unique = f"{name[: _MAX_TITLE - 8]} {n}"
                taken.add(unique.casefold())
                each["document"]["name"] = unique


def _written(given: Iterable[Mapping[str, Any]], taken: frozenset[str]) -> list[p.Part]:
    return p.written(given, lambda part: _block(part, taken), lambda text: {"text": text})


def _block(part: Mapping[str, Any], taken: frozenset[str]) -> p.Part | None:
    """Return a stored part as a block, empty if it says nothing; None if the API takes none such here."""
    kind = part["type"]
    own = p.native(part.get("bedrock"))
    if own and (kind == "bedrock" or "json" in own) and (taken.issuperset(own) or not own.keys() & _KNOWN):
        return dict(own)
    made = _MAKE[kind](part) if kind in _MAKE else None
    if made is None or not taken.issuperset(made):
        return None
    return {} if "text" in made and not made["text"].strip() else made


def _text(part: Mapping[str, Any]) -> p.Part | None:
    text = part.get(part["type"])
    return {"text": text} if isinstance(text, str) else None


def _data(part: Mapping[str, Any]) -> p.Part | None:
    media = p.media_of(part)
    if media is None:
        return None
    top, _, form = media.mime_type.partition("/")
    source = {"bytes": media.data}
    for kind, forms in (("image", _IMAGES), ("audio", _AUDIO)):
        if top == kind and form in forms:
            return {kind: {"format": form, "source": source}}
    form = _DOCUMENT_FORMATS.get(media.mime_type, "")
    title = _title(p.native(part.get("file")).get("filename"), form)
    return {"document": {"format": form, "name": title, "source": source}} if form else None


def _title(filename: object, form: str) -> str:
    """Return a name for a document: of letters, digits, single spaces, hyphens, parentheses and brackets."""
    name = filename.removesuffix(f".{form}") if isinstance(filename, str) else ""
    return re.sub(r"[^A-Za-z0-9()\[\]-]+", " ", name).strip()[:_MAX_TITLE].strip() or "document"


_MAKE: dict[str, Callable[[Mapping[str, Any]], p.Part | None]] = {
    "text": _text,
    "refusal": _text,
    "image_url": _data,
    "input_audio": _data,
    "file": _data,
}
_SYSTEM = frozenset({"text", "guardContent", "cachePoint"})
_RESULT = frozenset({"text", "json", "image", "document", "video", "searchResult"})
_USER = _SYSTEM | (_RESULT - {"json"}) | {"audio"}
_ASSISTANT = frozenset({"text", "cachePoint", "reasoningContent", "citationsContent"})
_KNOWN = _USER | _RESULT | _ASSISTANT | {"toolUse", "toolResult"}


def _as_bytes(value: Any) -> Any:
    """Return blocks with their data as bytes, in place of base64."""
    if is_array(value):
        return [_as_bytes(each) for each in value]
    if not is_mapping(value):
        return value
    return {key: _bytes(v) if key in _DATA else v if key in _FREE else _as_bytes(v) for key, v in value.items()}


def _bytes(value: Any) -> Any:
    with suppress(ValueError, TypeError):
        return b64decode(value, validate=True)
    return value


# Reading ----------------------------------------------------------------------------------------------------------


def read(items: Iterable[tuple[str, p.Part]], system: object, clock: Clock, calls: Mapping[str, str]) -> list[Message]:
    """Return the messages that *items* say, the system text first. Their results name their *calls* themselves."""
    del calls
    messages: list[Message] = []
    if system is not None:
        given = (
            [{"text": system}] if isinstance(system, str) else p.given_object({"system": system}, "prompt")["system"]
        )
        messages.append(p.new_message("prompt.system", clock, "system", _content(_checked(given, "prompt.system"))))
    return [*messages, *turns.read(items, _fields, clock, "content")]


def _fields(item: p.Part, path: str) -> Sequence[p.Part]:
    """Return the fields of the messages that an item becomes."""
    given = check_text(item.get("role"), f"{path}.role")
    role, place = p.role_of(given), f"{path}.content"
    if role not in ("user", "assistant"):
        known = "it is 'user' or 'assistant'; Chat Completions are read without format="
        raise InvalidValueError(f"{path}.role", f"is {shown(given)}; {known}")
    blocks = _checked(item.get("content"), place)
    if role == "assistant":
        return [turns.of_model(blocks, place, "bedrock", _read_call, _content)]
    return turns.of_user(blocks, place, _read_result, _content)


def _read_call(block: p.Part, path: str) -> p.Part | None:
    if "toolUse" not in block:
        return None
    given = p.check_object(block["toolUse"], f"{path}.toolUse")
    for key in ("toolUseId", "name"):
        check_text(given.get(key), f"{path}.toolUse.{key}")
    p.check_object(given.get("input"), f"{path}.toolUse.input")
    return call(block)


def call(block: Mapping[str, Any]) -> p.Part:
    """Return a ``toolUse`` as a tool call; without an id if it has none."""
    given = p.native(block["toolUse"])
    own = p.rest_of(given, "toolUseId", "name", "input")
    return p.call_of(given.get("toolUseId"), given.get("name"), given.get("input") or {}, "bedrock", own)


def _read_result(block: p.Part, path: str) -> p.Result | None:
    if not _is_result(block):
        return None
    given = p.check_object(block["toolResult"], f"{path}.toolResult")
    check_text(given.get("toolUseId"), f"{path}.toolResult.toolUseId")
    _checked(given.get("content"), f"{path}.toolResult.content")
    return result(block)


def result(block: Mapping[str, Any]) -> p.Result:
    """Return what a ``toolResult`` says."""
    given = p.native(block["toolResult"])
    content = given.get("content")
    if is_array(content) and all(map(is_mapping, content)):
        only = p.native(content[0]).get("json") if len(content) == 1 else None
        content = only if is_mapping(only) else _content(content) or None
    call_id, own = given.get("toolUseId"), p.rest_of(given, "toolUseId", "content")
    failed = {"is_error": True} if own.get("status") == "error" else {}
    metadata = {**turns.own("bedrock", tool_result=own), **turns.own("anthropic", tool_result=failed)}
    return p.Result(call_id if isinstance(call_id, str) else None, content, metadata)


def _content(blocks: Sequence[Mapping[str, Any]]) -> Any:
    """Return blocks as they are stored; a single text as text."""
    return turns.content_of([stored_part(each) for each in blocks])


def stored_part(block: Mapping[str, Any]) -> p.Part:
    """Return a block as it is stored: as its canonical part, if that is written as the same block again."""
    if set(block) == {"text"} and isinstance(block["text"], str):
        return p.text_part(block["text"])
    if "json" in block:
        return p.with_native(p.text_part(p.text_of(block["json"])), "bedrock", block)
    candidate = _canonical(block)
    if candidate is not None and _block(candidate, _USER) == block:
        return candidate
    return {"type": "bedrock", "bedrock": dict(block)}


def _canonical(block: Mapping[str, Any]) -> p.Part | None:
    kind = next((each for each in ("image", "audio", "document") if each in block), "")
    given = p.native(block.get(kind))
    form, data = given.get("format"), p.native(given.get("source")).get("bytes")
    if not isinstance(form, str) or not isinstance(data, str):
        return None
    mime_type = _DOCUMENTS.get(form, "") if kind == "document" else f"{kind}/{form}"
    return p.media_part(p.Media(mime_type, data), given.get("name"))


def _checked(content: Any, path: str) -> list[p.Part]:
    blocks = [
        p.check_object(each, f"{path}[{n}]") for n, each in enumerate(p.check_list(content, path, "a list of blocks"))
    ]
    for n, each in enumerate(blocks):
        if not each or "type" in each:
            problem = "is no block of Converse, which is an object with one key: {'text': 'Hello!'}"
            raise InvalidValueError(f"{path}[{n}]", problem)
        if "text" in each:
            check_text(each["text"], f"{path}[{n}].text")
    return blocks
