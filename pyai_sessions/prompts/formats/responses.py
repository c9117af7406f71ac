"""OpenAI's Responses, as its ``input=`` takes them: https://platform.openai.com/docs/api-reference/responses/create.

::

    {"role": "system" | "developer" | "user", "content": text | [{"type": "input_text", "text": text}, ...]}
    {"role": "assistant", "content": text}
    {"type": "message", "id": text, "status": text, "role": "assistant", "content": [
        {"type": "output_text", "text": text, "annotations": [...]}]}
    {"type": "function_call", "call_id": text, "name": text, "arguments": JSON text, "id"?: text, "status"?: text}
    {"type": "function_call_output", "call_id": text, "output": text | [{"type": "input_text", "text": text}, ...]}
    {"type": "reasoning", "id": text, "summary": [...], "encrypted_content"?: text}

As it is stored, and back:

- What the model made between two inputs is one assistant's message: its reasoning, words and calls. So a window has all
  of it or nothing, as the API asks: reasoning goes with what it led to. Where calls stand among the rest is in
  ``metadata["responses"]["calls_at"]``, if they are not the last.
- ``function_call`` and ``custom_tool_call`` are tool calls, what they say besides (``id``, ``status``) is under their
  ``"responses"``. An output is a tool's message; what it says besides is in ``metadata["responses"]["output"]``.
- Each text of an output message is a text, with the message's ``id``, ``status`` and ``phase``, and its annotations,
  under ``"responses"``. A message without an id is written as plain text.
- ``input_image`` is image_url and ``input_file`` a file, where nothing is lost by that. Reasoning and calls of OpenAI's
  own tools stand in the content as they are. All other items and parts are kept under ``"responses"``.
- Reasoning that nothing follows in its message is left out, since the API refuses it.
- Fields of an item that are None count as absent.
- System messages stay in the list, wherever they stand. A role that the API does not know is told as a user's message
  that begins with its role: ``[critic]``. A user's message with nothing in it is ``[empty message]``.
- Names and ids are made of the characters that the API takes, and cut to its length; each call has an id of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats import turns
from pyai_sessions.values.checks import Clock, check_text, shown
from pyai_sessions.values.json import is_array, thawed
from pyai_sessions.values.messages import Message

_MAX_NAME = 64
_MAX_ID = 64
_OF_MESSAGE = ("id", "status", "phase")
_OF_CALL = ("id", "status", "caller", "namespace", "async")
_OF_OUTPUT = (*_OF_CALL, "name")
_INPUT_ROLES = ("user", "system", "developer")
_USER = frozenset({"text", "refusal", "image_url", "file", "responses"})
_TEXT_ALONE = frozenset({"text", "refusal"})

CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""The items that call a tool of the application, and the field that has what the tool is given."""

OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})
"""The items that answer such a call."""


# Writing ----------------------------------------------------------------------------------------------------------


def write(messages: Sequence[Message]) -> tuple[list[p.Part], None]:
    """Return the input of a call. There is no system text apart from it."""
    ids = p.CallIds(_MAX_ID, unique=True)
    custom: set[str] = set()
    items = [item for each in messages for item in _items(each, ids, custom)]
    return thawed(items) or [{"role": "user", "content": p.EMPTY} for _ in messages[:1]], None


def _items(message: Message, ids: p.CallIds, custom: set[str]) -> list[p.Part]:
    """Return the items that a message becomes. *custom* are the ids of calls whose input is free text."""
    role = p.speaker(message)
    if role == "assistant":
        return _made_by_model(message, ids, custom)
    if role == "tool":
        call_id = ids.of_result(message.tool_call_id or "")
        own = p.own_of(message, "responses", "output")
        kind = "custom_tool_call_output" if call_id in custom else "function_call_output"
        return [{"type": kind, "call_id": call_id, "output": _output(message), **_known(own, _OF_OUTPUT)}]
    if isinstance(message.content, str) and message.content and role != "other":
        return [{"role": role, "content": message.content}]
    given = p.told_parts(message) if role == "other" else p.parts_of(message)
    blocks = _written(given, _TEXT_ALONE if role in p.SYSTEM else _USER)
    if not blocks and role in p.SYSTEM:
        return []
    made: list[p.Part] = []
    for block in blocks or [{"type": "input_text", "text": p.EMPTY}]:
        if "item" in block:
            made.append(block["item"])
        elif made and "role" in made[-1]:
            made[-1]["content"].append(block)
        else:
            made.append({"role": "user" if role == "other" else role, "content": [block]})
    return made


def _made_by_model(message: Message, ids: p.CallIds, custom: set[str]) -> list[p.Part]:
    calls = [_call(each, ids) for each in p.calls_of(message)]
    custom.update(each["call_id"] for each in calls if each["type"] == "custom_tool_call")
    said = [item for part in p.parts_of(message) if (item := _said(part)) is not None]
    made: list[p.Part] = []
    for item in turns.woven(said, calls, message, "responses"):
        if made and _is_same_message(made[-1], item):
            made[-1] = {**made[-1], "content": [*made[-1]["content"], *item["content"]]}
        else:
            made.append(item)
    while made and made[-1].get("type") == "reasoning":
        made.pop()
    return made


def _is_same_message(one: p.Part, other: p.Part) -> bool:
    """Return whether two items are texts of one output message. Reasoning may have its id, too."""
    return "id" in other and all(each.get("type") == "message" for each in (one, other)) and one["id"] == other["id"]


def _said(part: p.Part) -> p.Part | None:
    """Return a part of an assistant's content as an item; None if the API takes nothing of it."""
    kind, own = part["type"], p.native(part.get("responses"))
    item = p.native(own.get("item"))
    if kind == "responses" and p.is_part(item) and _by_model(item["type"]):
        return dict(item)
    if kind in _ITEMS and isinstance(part.get("id"), str):
        return p.without_apis(part)
    message, besides = p.native(own.get("message")), p.rest_of(own, "message")
    text = part.get(kind) if kind in ("text", "refusal") else None
    if "id" in message and (text is not None or p.is_part(besides)):
        block: p.Part = {}
        if isinstance(text, str):
            block = {"type": "output_text", "text": text, "annotations": []} if kind == "text" else p.without_apis(part)
        given = {"status": "completed", **_known(message, _OF_MESSAGE)}
        return {"type": "message", "role": "assistant", **given, "content": [{**block, **besides}]}
    told = text if isinstance(text, str) else p.left_out(part)
    return {"role": "assistant", "content": told, **_known(message, ("phase",))} if told else None


def said_alone(message: Message) -> p.Part | None:
    """Return the item of a stored message that is one text of the model's, as `write` writes it; None of any other.

    Most answers that the API gave are so, and this takes less than half of the time (measured: 0.43).
    """
    content = message.content
    if message.role != "assistant" or message.tool_calls is not None or message.tool_call_id is not None:
        return None
    if not is_array(content) or len(content) != 1 or not p.is_part(content[0]) or content[0]["type"] != "text":
        return None
    item = _said(content[0])
    return None if item is None or not item["content"] else thawed(item)


_ITEMS = frozenset({
    "reasoning", "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call",
    "mcp_list_tools", "mcp_approval_request",
})  # fmt: skip
"""Items that stand in a content as they are, if they have an id."""


def _call(call: p.Call, ids: p.CallIds) -> p.Part:
    given = {"call_id": ids.of_call(call.id), "name": p.fit(call.name, _MAX_NAME)}
    own = _known(p.native(call.stored.get("responses")), _OF_CALL)
    if "custom" in call.stored:
        return {"type": "custom_tool_call", **given, "input": p.text_of(call.input.get("input") or ""), **own}
    return {"type": "function_call", **given, "arguments": p.text_of(call.arguments), **own}


def _output(message: Message) -> Any:
    result = p.result_of(message)
    if is_array(result):
        return [each for each in _written(result, _USER) if "item" not in each] or ""
    return "" if result is None else p.text_of(result)


def _known(own: Mapping[str, Any], keys: Sequence[str]) -> p.Part:
    return {key: own[key] for key in keys if key in own}


def _written(given: Iterable[Mapping[str, Any]], taken: frozenset[str]) -> list[p.Part]:
    return p.written(given, lambda part: _block(part, taken), lambda text: {"type": "input_text", "text": text})


def _block(part: Mapping[str, Any], taken: frozenset[str]) -> p.Part | None:
    """Return a stored part as one of an input message; None if the API takes none such here."""
    kind, own = part["type"], p.rest_of(p.native(part.get("responses")), "message")
    item = p.native(own.get("item"))
    if kind == "responses" and kind in taken and (p.is_part(own) or (p.is_part(item) and not _by_model(item["type"]))):
        return dict(own)
    made = _MAKE[kind](part) if kind in _MAKE and kind in taken else None
    return None if made is None else {**made, **p.rest_of(own, "annotations", "logprobs")}


def _text(part: Mapping[str, Any]) -> p.Part | None:
    text = part.get(part["type"])
    return {"type": "input_text", "text": text} if isinstance(text, str) else None


def _image(part: Mapping[str, Any]) -> p.Part | None:
    url, detail = p.url_of(part), p.native(part.get("image_url")).get("detail")
    detail = detail if isinstance(detail, str) else "auto"
    return None if url is None else {"type": "input_image", "image_url": url, "detail": detail}


def _file(part: Mapping[str, Any]) -> p.Part | None:
    file = p.native(part.get("file"))
    given = {key: file[key] for key in ("filename", "file_data", "file_id") if isinstance(file.get(key), str)}
    if "file_data" in given:
        return {"type": "input_file", "filename": "file", **given}
    return {"type": "input_file", **given} if "file_id" in given else None


_MAKE = {"text": _text, "refusal": _text, "image_url": _image, "file": _file}


# Reading ----------------------------------------------------------------------------------------------------------


def read(items: Iterable[tuple[str, p.Part]], system: object, clock: Clock, calls: Mapping[str, str]) -> list[Message]:
    """Return the messages that *items* are. Their outputs name their *calls* themselves."""
    del calls
    opening = [] if system is None else [("prompt", p.given_object({"role": "system", "content": system}, "prompt"))]
    messages: list[Message] = []
    made: list[tuple[str, p.Part]] = []
    for path, given in [*opening, *items]:
        item = {key: each for key, each in given.items() if each is not None}
        if is_models(item, path):
            made.append((path, item))
            continue
        messages += [*_model_message(made, clock), _input_message(item, path, clock)]
        made = []
    return [*messages, *_model_message(made, clock)]


def is_models(item: p.Part, path: str) -> bool:
    """Return whether the model made an item; else the application gave it."""
    kind = check_text(item.get("type", "message"), f"{path}.type")
    if kind != "message":
        return _by_model(kind)
    role = check_text(item.get("role"), f"{path}.role")
    meant = p.role_of(role)
    if meant not in (*_INPUT_ROLES, "assistant"):
        known = "it is 'user', 'assistant', 'system' or 'developer'; Chat Completions are read without format="
        raise InvalidValueError(f"{path}.role", f"is {shown(role)}; {known}")
    return meant == "assistant"


def _by_model(kind: str) -> bool:
    """Return whether items of a kind, other than messages, are made by the model; else an application gives them."""
    return not kind.endswith(("_output", "_response", "_reference", "_trigger"))


def _input_message(item: p.Part, path: str, clock: Clock) -> Message:
    kind = item.get("type", "message")
    if kind in OUTPUTS:
        call_id = check_text(item.get("call_id"), f"{path}.call_id")
        output = item.get("output")
        content = None if output is None else _stored_content(output, f"{path}.output")
        metadata = turns.own("responses", output=_known(item, _OF_OUTPUT))
        made = p.new_message(path, clock, "tool", content, tool_call_id=call_id, metadata=metadata)
        made.keep_unknown(p.unknown(item, "type", "call_id", "output", *_OF_OUTPUT))
    elif kind == "message":
        role = p.role_of(item["role"]) or item["role"]
        made = p.new_message(path, clock, role, _stored_content(item.get("content"), f"{path}.content"))
        made.keep_unknown(p.unknown(item, "type", "role", "content"))
    else:
        made = p.new_message(path, clock, "user", [{"type": "responses", "responses": {"item": item}}])
    return made


def _stored_content(content: Any, path: str) -> Any:
    return content if isinstance(content, str) else [stored_part(each) for each in _checked(content, path)]


def _checked(content: Any, path: str) -> list[p.Part]:
    blocks = [
        p.check_part(e, f"{path}[{n}]") for n, e in enumerate(p.check_list(content, path, "text, or a list of parts"))
    ]
    for n, each in enumerate(blocks):
        if each["type"] in _TEXTS:
            check_text(each.get("text"), f"{path}[{n}].text")
    return blocks


_TEXTS = ("text", "input_text", "output_text")


def stored_part(block: Mapping[str, Any]) -> p.Part:
    """Return a part as it is stored: as its canonical part, if that is written as the same part again."""
    kind, rest = block["type"], p.rest_of(block, "type", "text")
    if kind in _TEXTS and isinstance(block.get("text"), str):
        besides = {key: each for key, each in rest.items() if each is not None and each != []}
        return p.with_native(p.text_part(block["text"]), "responses", besides)
    candidate = None
    if kind == "input_image" and isinstance(block.get("image_url"), str):
        detail = {} if block.get("detail", "auto") == "auto" else {"detail": block["detail"]}
        candidate = p.image_part(block["image_url"])
        candidate["image_url"] |= detail
    elif kind == "input_file":
        candidate = {"type": "file", "file": p.rest_of(block, "type")}
    elif kind == "refusal":
        candidate = dict(block)
    same = {"detail": "auto", **block} if kind == "input_image" else block
    if candidate is not None and (kind == "refusal" or _block(candidate, _USER) == same):
        return candidate
    return {"type": "responses", "responses": dict(block)}


def _model_message(items: Sequence[tuple[str, p.Part]], clock: Clock) -> list[Message]:
    """Return what the model made as one message, or nothing if it made nothing."""
    if not items:
        return []
    said: list[p.Part] = []
    calls: list[p.Part] = []
    kinds: list[bool] = []
    unknown: p.Part = {}
    for path, item in items:
        kind = item.get("type", "message")
        if kind in CALLS:
            for key in ("call_id", "name", CALLS[kind]):
                check_text(item.get(key), f"{path}.{key}")
            calls.append(call(item))
            unknown |= p.unknown(item, "type", "call_id", "name", CALLS[kind], *_OF_CALL)
        elif kind == "message":
            said += _message_parts(item, path)
            unknown |= p.unknown(item, "type", "role", "content", *_OF_MESSAGE)
        else:
            rest = _reasoning_unknown(item)
            made_item = p.rest_of(item, *rest)
            is_plain = kind in _ITEMS and isinstance(item.get("id"), str)
            said.append(made_item if is_plain else {"type": "responses", "responses": {"item": made_item}})
            unknown |= rest
        kinds += [kind in CALLS] * (len(said) + len(calls) - len(kinds))
    metadata = turns.own("responses", **turns.call_places(kinds))
    content = turns.content_of(said) or None
    made = p.new_message(items[0][0], clock, "assistant", content, tool_calls=calls, metadata=metadata)
    made.keep_unknown(unknown)
    return [made]


def _reasoning_unknown(item: p.Part) -> p.Part:
    """Return what reasoning says that this release does not know; all of another item is kept in its place."""
    known = ("type", "id", "summary", "content", "encrypted_content", "status")
    return p.unknown(item, *known) if item["type"] == "reasoning" else {}


def _message_parts(item: p.Part, path: str) -> list[p.Part]:
    """Return the parts of an output message, each with what the message says of itself."""
    content, own = item.get("content"), _known(item, _OF_MESSAGE)
    blocks = [p.text_part(content)] if isinstance(content, str) else _checked(content, f"{path}.content")
    message = {"message": own} if "id" in own or "phase" in own else {}
    return [
        p.with_native(part, "responses", {**p.native(part.get("responses")), **message})
        for part in map(stored_part, blocks)
    ]


def call(item: Mapping[str, Any]) -> p.Part:
    """Return an item as a tool call; without an id if it has none."""
    own = _known(item, _OF_CALL)
    arguments = item.get(CALLS[item["type"]])
    made = p.call_of(item.get("call_id"), item.get("name"), "{}" if arguments is None else arguments, "responses", own)
    if item["type"] == "custom_tool_call":
        custom = {"name": made["function"]["name"], "input": p.text_of(arguments or "")}
        return {**p.rest_of(made, "function"), "type": "custom", "custom": custom}
    return made


def result(item: Mapping[str, Any]) -> p.Result:
    """Return what an output says."""
    output, call_id = item.get("output"), item.get("call_id")
    if is_array(output) and all(map(p.is_part, output)):
        output = [stored_part(each) for each in output]
    own = turns.own("responses", output=_known(item, _OF_OUTPUT))
    return p.Result(call_id if isinstance(call_id, str) else None, output, own)
