"""Anthropic's Messages: https://platform.claude.com/docs/en/api/messages.

::

    {"role": "user", "content": text | [tool_result blocks first, then others]}
    {"role": "assistant", "content": text | [blocks, tool_use among them]}
    system: text | [text blocks]

As it is stored, and back:

- ``tool_use`` is a tool call, its input JSON text. A ``tool_result`` is a tool's message; what it says besides its
  content (``is_error``) is in ``metadata["anthropic"]["tool_result"]``. Text follows as a user's message.
- ``image`` is image_url, a PDF ``document`` is a file, where nothing is lost by that. Thinking, with its signature,
  and all other blocks stay as they are. ``cache_control``, citations and whatever else a text says is under its
  ``"anthropic"``. Where calls stand among an assistant's blocks is in ``metadata["anthropic"]["calls_at"]``, if they
  are not the last.
- System messages that open the conversation are the system text. A later one is told as a user's message that begins
  with ``[system]``: most models take no other. One that was read from among the messages is written there again, as
  newer models take it (https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages), where
  it follows a user's message and the assistant is next. Roles that the API does not know are told in the same way:
  ``[critic]``.
- Neighbours of one role are one message, as the API itself takes them. So a turn's tool results, and what the user
  says next, are one message.
- Text that is empty or blank is left out, since the API refuses it; a user's message with nothing left is ``[empty
  message]``. A message of another role with nothing left is left out.
- A call whose arguments are not a JSON object gets the input ``{"arguments": "<the text>"}``. A tool's result of any
  other JSON becomes its text. Ids are of letters, digits, ``_`` and ``-``, each used once. Authors' names are left
  out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats import turns
from pyai_sessions.values.checks import Clock, check_text, shown
from pyai_sessions.values.json import is_array, thawed
from pyai_sessions.values.messages import Message

_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF = "application/pdf"
_MAX_NAME = 128
_MAX_ID = 128

Content = str | list[p.Part]


# Writing ----------------------------------------------------------------------------------------------------------


def write(messages: Sequence[Message]) -> tuple[list[p.Part], Content | None]:
    """Return the messages of a call, and its system text."""
    opening, rest = turns.split_opening(messages)
    ids = p.CallIds(_MAX_ID, unique=True)
    said = _in_place(_turn(each, ids) for each in rest)
    items = [{"role": role, "content": content} for role, content in turns.from_a_user(said, rest, str)]
    return thawed(items), thawed(_system(opening))


def _system(opening: Sequence[Message]) -> Content | None:
    contents = [content for each in opening if (content := _text_content(each))]
    if len(contents) == 1:
        return contents[0]
    return [block for each in contents for block in _blocks(each)] or None


def _turn(message: Message, ids: p.CallIds) -> tuple[str, Content]:
    """Return who says a message there, and what."""
    kind = p.speaker(message)
    if kind == "tool":
        return "user", [_tool_result(message, ids)]
    if kind in p.SYSTEM and p.native(message.metadata.get("anthropic")).get("among_messages") is True:
        return "system", _text_content(message)
    if kind not in ("user", "assistant"):
        return "user", _written(p.told_parts(message), _USER)
    calls = [_tool_use(each, ids) for each in p.calls_of(message)]
    if isinstance(message.content, str) and message.content.strip() and not calls:
        return kind, message.content
    if kind == "user":
        return kind, _written(p.parts_of(message), _USER) or [p.text_part(p.EMPTY)]
    return kind, turns.woven(_written(p.parts_of(message), _ASSISTANT), calls, message, "anthropic")


def _tool_result(message: Message, ids: p.CallIds) -> p.Part:
    block: p.Part = {"type": "tool_result", "tool_use_id": ids.of_result(message.tool_call_id or "")}
    result = p.result_of(message)
    if is_array(result):
        block["content"] = _written(result, _RESULT)
    elif result is not None:
        block["content"] = p.text_of(result)
    return {**block, **p.own_of(message, "anthropic", "tool_result")}


def _in_place(said: Iterable[tuple[str, Content]]) -> list[tuple[str, Content]]:
    """Merge neighbours of one role; tell a system message as a user's where the API would not take it."""
    runs = turns.merged(said, _is_result, _blocks)
    roles = ["", *(role for role, _ in runs), "assistant"]
    told = (
        ("user", [p.text_part("[system]"), *_blocks(content)])
        if role == "system" and (roles[n], roles[n + 2]) != ("user", "assistant")
        else (role, content)
        for n, (role, content) in enumerate(runs)
    )
    return turns.merged(told, _is_result, _blocks)


def _is_result(block: p.Part) -> bool:
    return bool(block["type"] == "tool_result")


def _blocks(content: Content) -> list[p.Part]:
    return [p.text_part(content)] if isinstance(content, str) else content


def _text_content(message: Message) -> Content:
    if isinstance(message.content, str) and message.content.strip():
        return message.content
    return _written(p.parts_of(message), frozenset({"text"}))


def _written(given: Iterable[Mapping[str, Any]], taken: frozenset[str]) -> list[p.Part]:
    return p.written(given, lambda part: _block(part, taken), p.text_part)


def _block(part: Mapping[str, Any], taken: frozenset[str]) -> p.Part | None:
    """Return a stored part as a block, empty if it says nothing; None if the API takes none such here."""
    own = p.native(part.get("anthropic"))
    native = own if part["type"] == "anthropic" and p.is_part(own) else part
    kind = native["type"]
    if native is own and kind not in p.NATIVE and "anthropic" in taken:
        return dict(own)
    if kind in p.NATIVE and kind in taken:
        return p.rest_of(native, *p.APIS)
    block = _MAKE[kind](part) if kind in _MAKE and kind in taken else None
    if block is None or (kind == "text" and not block["text"].strip()):
        return block and {}
    marks = {key: part[key] for key in ("cache_control", "citations") if key in part}
    return {**block, **marks, **own}


def _text(part: Mapping[str, Any]) -> p.Part | None:
    text = part.get(part["type"])
    return p.text_part(text) if isinstance(text, str) else None


def _image(part: Mapping[str, Any]) -> p.Part | None:
    media, url = p.media_of(part), p.url_of(part)
    if media is not None:
        return {"type": "image", "source": _source(media)} if media.mime_type in _IMAGES else None
    if url is None or not url.startswith(("https://", "http://")):
        return None
    return {"type": "image", "source": {"type": "url", "url": url}}


def _document(part: Mapping[str, Any]) -> p.Part | None:
    media = p.media_of(part)
    if media is None or media.mime_type != _PDF:
        return None
    filename = p.native(part.get("file")).get("filename")
    titled = {"title": filename} if isinstance(filename, str) else {}
    return {"type": "document", "source": _source(media), **titled}


def _source(media: p.Media) -> p.Part:
    return {"type": "base64", "media_type": media.mime_type, "data": media.data}


_MAKE: dict[str, Callable[[Mapping[str, Any]], p.Part | None]] = {
    "text": _text,
    "refusal": _text,
    "image_url": _image,
    "file": _document,
}
_GIVEN = frozenset({"image", "document", "search_result"})
_RESULT = frozenset(_MAKE) | _GIVEN | {"tool_reference", "anthropic"}
_USER = frozenset(_MAKE) | _GIVEN | {"tool_result", "container_upload", "anthropic"}
_ASSISTANT = (p.NATIVE - _RESULT - _USER) | {"text", "refusal", "anthropic"}


def _tool_use(call: p.Call, ids: p.CallIds) -> p.Part:
    name = p.fit(call.name, _MAX_NAME)
    own = p.native(call.stored.get("anthropic"))
    return {"type": "tool_use", "id": ids.of_call(call.id), "name": name, "input": call.input, **own}


# Reading ----------------------------------------------------------------------------------------------------------


def read(items: Iterable[tuple[str, p.Part]], system: object, clock: Clock, calls: Mapping[str, str]) -> list[Message]:
    """Return the messages that *items* say, the system text first. Their results name their *calls* themselves."""
    del calls
    messages: list[Message] = []
    if system is not None:
        content = _stored_content(p.given_object({"system": system}, "prompt")["system"], "prompt.system")
        messages.append(p.new_message("prompt.system", clock, "system", content))
    return [*messages, *turns.read(items, _fields, clock, "content")]


def _fields(item: p.Part, path: str) -> Sequence[p.Part]:
    """Return the fields of the messages that an item becomes."""
    given = check_text(item.get("role"), f"{path}.role")
    role, content, place = p.role_of(given) or given, item.get("content"), f"{path}.content"
    if role not in ("user", "assistant", "system"):
        known = "it is one of 'user', 'assistant', 'system'; Chat Completions are read without format="
        raise InvalidValueError(f"{path}.role", f"is {shown(given)}; {known}")
    if role == "system":
        stored = _stored_content(content, place)
        return [{"role": role, "content": stored, "metadata": {"anthropic": {"among_messages": True}}}]
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    blocks = _checked(content, place)
    if role == "assistant":
        return [turns.of_model(blocks, place, "anthropic", _read_call, _stored_blocks)]
    return turns.of_user(blocks, place, _read_result, _stored_blocks)


def _read_result(block: p.Part, path: str) -> p.Result | None:
    if not _is_result(block):
        return None
    check_text(block.get("tool_use_id"), f"{path}.tool_use_id")
    content = block.get("content")
    return result(block, None if content is None else _stored_content(content, f"{path}.content"))


def result(block: Mapping[str, Any], content: Any) -> p.Result:
    """Return what a ``tool_result`` says, with its content as it is stored."""
    own = turns.own("anthropic", tool_result=p.rest_of(block, "type", "tool_use_id", "content"))
    return p.Result(block.get("tool_use_id"), content, own)


def _read_call(block: p.Part, path: str) -> p.Part | None:
    if block["type"] != "tool_use":
        return None
    call_id, name = (check_text(block.get(key), f"{path}.{key}") for key in ("id", "name"))
    arguments = p.check_object(block.get("input"), f"{path}.input")
    return p.call_of(call_id, name, arguments, "anthropic", p.rest_of(block, "type", "id", "name", "input"))


def _stored_content(content: Any, path: str) -> Any:
    return content if isinstance(content, str) else _stored_blocks(_checked(content, path))


def _stored_blocks(blocks: turns.Blocks) -> list[p.Part]:
    return list(map(stored_part, blocks))


def _checked(content: Any, path: str) -> list[p.Part]:
    blocks = p.check_list(content, path, "text, or a list of blocks")
    return [p.check_part(each, f"{path}[{n}]") for n, each in enumerate(blocks)]


def stored_part(block: p.Part) -> p.Part:
    """Return a block as it is stored: as its canonical part, if that is written as the same block again."""
    kind = block["type"]
    if kind == "text":
        return p.with_native(p.text_part(block["text"]), "anthropic", p.rest_of(block, "type", "text"))
    candidate = _CANONICAL[kind](block) if kind in _CANONICAL else None
    if candidate is not None and _block(candidate, _USER) == block:
        return candidate
    return block if kind in p.NATIVE else {"type": "anthropic", "anthropic": block}


def _read_image(block: p.Part) -> p.Part:
    source = p.native(block.get("source"))
    media = _media(source)
    part = p.image_part(p.text_of(source.get("url"))) if media is None else p.media_part(media)
    return p.with_native(part, "anthropic", p.rest_of(block, "type", "source"))


def _read_document(block: p.Part) -> p.Part | None:
    media = _media(p.native(block.get("source")))
    if media is None:
        return None
    return p.with_native(
        p.media_part(media, block.get("title")), "anthropic", p.rest_of(block, "type", "source", "title")
    )


def _media(source: Mapping[str, Any]) -> p.Media | None:
    data = source.get("data")
    if source.get("type") != "base64" or not isinstance(data, str):
        return None
    return p.Media(p.text_of(source.get("media_type")), data)


_CANONICAL: dict[str, Callable[[p.Part], p.Part | None]] = {"image": _read_image, "document": _read_document}
