"""The items that `add_messages` and `append` take, and the messages that they become.

A `Message`, or a dict with the fields that `Message.to_dict` gives, is taken as it is: time, id, metadata, name, and
fields that this release does not know. A format's own items are read by its module. Where none is asked for, these are
understood, too, and translated:

- items of OpenAI's Responses: ``message``, ``function_call``, ``function_call_output``, ``custom_tool_call``,
  ``custom_tool_call_output``, ``reasoning``, and calls of its own tools (``web_search_call``); what the model made
  between two inputs is one message
- LangChain's messages as dicts: ``{"type": "human", "content": …}``, with ``data`` around it, or as ``lc`` constructors
- Gemini's contents (``parts``), Anthropic's, Bedrock's and Vercel's blocks in a content
- UI messages of Vercel's AI SDK, if they are text alone
- tool calls of LangChain, of Ollama, whose calls have no ids and whose results name a tool, and OpenAI's former
  ``function_call`` with the role ``function``
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats import blocks, shapes, turns
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.values.checks import Clock, check_text, check_time, shown
from pyai_sessions.values.json import is_array, is_mapping
from pyai_sessions.values.messages import Message
from pyai_sessions.values.tokens import new_id

_OWN = ("timestamp", "metadata", "message_id")
_STORED = frozenset({"role", "message_id", "timestamp"})
_FIELDS = frozenset(Message.__dataclass_fields__)

_RESPONSES = frozenset({
    "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
    "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call",
    "mcp_list_tools", "mcp_approval_request",
})  # fmt: skip
_PARTS = frozenset({"text", "input_text", "input_image", "input_file", "output_text", "refusal"})

_ACCEPTED = (
    "it is a Message, a message of Chat Completions with role and content, an item of OpenAI's Responses, a message of "
    "LangChain's as a dict, a content of Gemini's with parts, or one with Anthropic's or Bedrock's blocks"
)
_WHOLE = {
    "choices": "a whole completion; give completion.choices[0].message",
    "candidates": "a whole response; give response.candidates[0].content",
    "message": "a whole response, or a choice of one; give its message",
    "output": "a whole response; give the items of its output, or output['message']",
}


def own(item: object, path: str) -> Message | None:
    """Return the `Message` that an item is, or that its fields describe; None if it is of another kind."""
    if is_mapping(item):
        return stored(item, path) if item.keys() >= _STORED and _is_whole(item) else None
    return item if isinstance(item, Message) else None


def _is_whole(item: Mapping[str, Any]) -> bool:
    """Return whether an item with a role says as a `Message` does what is said, and not in fields of an API."""
    if _is_ui(item) or any(item.get(key) is not None for key in ("parts", "function_call")):
        return False
    names_its_call = item.get("tool_name") is None or item.get("tool_call_id") is not None
    return names_its_call and ("content" in item or bool(item.get("tool_calls")))


def stored(item: Mapping[str, Any], path: str) -> Message:
    """Return the `Message` with these fields. Unknown ones are kept beside them."""
    given = p.given_message(item, path)
    try:
        made = Message(**{key: value for key, value in given.items() if key in _FIELDS and not _is_absent(key, value)})
    except InvalidValueError as err:
        raise err.within(path) from err
    made.keep_unknown(p.rest_of(given, *_FIELDS))
    return made


def _is_absent(key: str, value: object) -> bool:
    return value is None and key != "content"


def says_more(item: Mapping[str, Any]) -> bool:
    """Return whether an item of an API also has a time, metadata or a message id."""
    return any(item.get(key) is not None for key in _OWN)


def with_own(item: p.Part, path: str, read: Callable[[p.Part, str], list[Message]]) -> list[Message]:
    """Return the messages that an item becomes, with the time, metadata and message id that it also has.

    Raises:
        InvalidValueError: An id is given, and the item is several messages.

    """
    given = {key: item[key] for key in _OWN if item.get(key) is not None}
    made = read(p.rest_of(item, *_OWN), path)
    if not given:
        return made
    if "message_id" in given and len(made) != 1:
        problem = (
            f"is one id, and the item becomes {len(made)} messages: its tools' results, and the rest; leave it out"
        )
        raise InvalidValueError(f"{path}.message_id", problem)
    fields: dict[str, Any] = {}
    if "timestamp" in given:
        fields["timestamp"] = check_time(given["timestamp"], f"{path}.timestamp")
    if "message_id" in given:
        fields["message_id"] = given["message_id"]
    metadata = p.check_object(given.get("metadata", {}), f"{path}.metadata")
    return [_changed(each, path, {**fields, "metadata": {**metadata, **each.metadata}}) for each in made]


def _changed(message: Message, path: str, fields: Mapping[str, Any]) -> Message:
    try:
        made = replace(message, **fields)
    except InvalidValueError as err:
        raise err.within(path) from err
    made.keep_unknown(message.unknown_fields)
    return made


# Any shape --------------------------------------------------------------------------------------------------------


class Reader:
    """Reads items of any shape, one after another. *calls* wait for results when the items begin.

    If they are None, the history is not known. A dict of a `Message`'s fields may then have any role and content, and
    a result with the name of its function may be that of an earlier call.
    """

    def __init__(self, clock: Clock, calls: Mapping[str, str] | None) -> None:
        self._clock = clock
        self._is_loaded = calls is not None
        self._calls = dict(calls or {})

    def messages(self, items: Iterable[tuple[str, object]]) -> Iterator[Message]:
        """Yield the messages that items become. Each item comes with its path."""
        run: list[tuple[str, p.Part]] = []  # items of Responses: what the model made between two inputs is one message
        for path, item in items:
            found = own(item, path) or (None if self._is_loaded else self._described(item, path))
            given = {} if found else p.given_message(item, path)
            if found is None and _is_response(given) and not says_more(given):
                run.append((path, given))
                continue
            yield from self._noted(self._read("responses", run))
            run = []
            yield from self._noted([found] if found else with_own(given, path, self._one))
        yield from self._noted(self._read("responses", run))

    def _described(self, item: object, path: str) -> Message | None:
        """Return the `Message` whose fields a dict has, and no others; None if it is of another kind."""
        given = {key: each for key, each in item.items() if not _is_absent(key, each)} if is_mapping(item) else {}
        if "role" not in given or not given.keys() <= _FIELDS or not _is_whole(given):
            return None
        fields: dict[str, Any] = {"timestamp": self._clock(), **given}
        try:
            return Message(**fields)
        except InvalidValueError as err:
            raise err.within(path) from err

    def _read(self, api: str, items: Sequence[tuple[str, p.Part]]) -> list[Message]:
        return p.module_of(api).read(items, None, self._clock, self._calls) if items else []

    def _one(self, given: p.Part, path: str) -> list[Message]:
        item = {key: value for key, value in given.items() if value is not None}
        if _is_ui(item):
            return self._said(_of_ui(item, path), path)
        if _is_response(item):
            return self._read("responses", [(path, item)])
        if "parts" in item and "content" not in item:
            return self._read("gemini", [(path, item)])
        for key, problem in _WHOLE.items():
            if key in item and "role" not in item:
                raise InvalidValueError(path, f"is {problem}")
        if "role" not in item or "lc" in item:
            return with_own(_langchain(item, path), path, self._one)
        return self._said(given, path)

    def _said(self, given: p.Part, path: str) -> list[Message]:
        role = check_text(given.get("role"), f"{path}.role")
        meant = p.role_of(role)
        if meant is None:
            known = "'user', 'assistant', 'system', 'developer', 'tool', or another name of these, as 'human' and 'ai'"
            raise InvalidValueError(f"{path}.role", f"is {shown(role)}; it is {known}")
        item = _former({**given, "role": meant}, path)
        if item.get("type") == "message":
            del item["type"]
        if meant == "tool" and item.get("tool_call_id") is None and not blocks.holds_results(item.get("content")):
            item = self._answering(item, path)
        if item.get("tool_calls"):
            item["tool_calls"] = _calls(item["tool_calls"], f"{path}.tool_calls")
        is_foreign = blocks.is_foreign(item.get("content"), meant)
        return self._told(item, path) if is_foreign else self._read("openai", [(path, item)])

    def _told(self, item: p.Part, path: str) -> list[Message]:
        """Return the messages that an item with foreign blocks becomes."""
        fields = ("role", "content", "name", "tool_calls", "tool_call_id", "metadata")
        raw = p.new_message(path, self._clock, **{key: item[key] for key in fields if key in item})
        made: list[Message] = []
        for each in shapes.prompt_messages(raw):
            values = {key: getattr(each.message, key) for key in fields}
            if values["role"] == "tool" and values["tool_call_id"] is None:
                values = self._answering(values, path)
            made.append(p.new_message(path, self._clock, **values))
        made[-1].keep_unknown(p.unknown(item, *fields))
        return made

    def _noted(self, made: list[Message]) -> list[Message]:
        """Remember which calls wait for a result."""
        for each in (said.message for message in made for said in shapes.prompt_messages(message)):
            if each.tool_calls:
                self._calls = {call.id: call.name for call in p.calls_of(each)}
            elif each.role == "tool":
                self._calls.pop(each.tool_call_id or self._waiting(each.name) or "", None)
        return made

    def _waiting(self, name: str | None) -> str | None:
        """Return the id of the first call that waits for the result of a function, or of any if None is named."""
        return next((key for key, function in self._calls.items() if name in (None, function)), None)

    def _answering(self, item: Mapping[str, Any], path: str) -> p.Part:
        """Return a result without a call's id with the id of the first waiting call of its function."""
        name = item.get("name") or item.get("tool_name")
        found = self._waiting(name)
        if found is not None:
            return {**p.rest_of(item, "tool_name"), "tool_call_id": found}
        if not self._is_loaded and name is not None:
            return {**p.rest_of(item, "tool_name"), "name": name}
        problem = "is missing, and no call of a tool waits for this result; it is the id of the call"
        raise InvalidValueError(f"{path}.tool_call_id", problem)


def is_geminis(item: object) -> bool:
    """Return whether an item is a dict that may be a content of Gemini's."""
    return is_mapping(item) and "parts" in item and not _is_ui(item)


# Vercel's AI SDK --------------------------------------------------------------------------------------------------

_BESIDE_TEXT = ("toolInvocations", "experimental_attachments")


def _is_ui(item: Mapping[str, Any]) -> bool:
    """Return whether an item is a UI message of Vercel's AI SDK. Its parts have types, which Gemini's have not."""
    parts = item.get("parts")
    return any(item.get(key) for key in _BESIDE_TEXT) or (is_array(parts) and any(map(p.is_part, parts)))


def _of_ui(item: p.Part, path: str) -> p.Part:
    """Return a UI message as one of Chat Completions."""
    remedy = "a UI message of Vercel's AI SDK is read if it is text alone; give what convertToModelMessages returns"
    for key in _BESIDE_TEXT:
        if item.get(key):
            raise InvalidValueError(f"{path}.{key}", f"is given, and {remedy}")
    texts: list[p.Part] = []
    for n, each in enumerate(p.check_list(item.get("parts"), f"{path}.parts")):
        part = p.check_part(each, f"{path}.parts[{n}]")
        if part["type"] not in ("text", "step-start"):
            raise InvalidValueError(f"{path}.parts[{n}].type", f"is {shown(part['type'])}, and {remedy}")
        texts += [p.text_part(part["text"])] if part["type"] == "text" else []
    return {**p.rest_of(item, "parts"), "content": turns.content_of(texts)}


def _is_response(item: p.Part) -> bool:
    """Return whether an item is of OpenAI's Responses; a message of Anthropic's has the type ``message``, too."""
    if item.get("type") != "message":
        return item.get("type") in _RESPONSES and "data" not in item
    content: Any = item.get("content")
    return not is_array(content) or all(not p.is_part(each) or each["type"] in _PARTS for each in content)


def _former(item: p.Part, path: str) -> p.Part:
    """Return a message with OpenAI's former ``function_call`` as one with tool calls."""
    if item.get("function_call") is None:
        return p.rest_of(item, "function_call")
    call = p.check_object(item["function_call"], f"{path}.function_call")
    check_text(call.get("name"), f"{path}.function_call.name")
    return {**p.rest_of(item, "function_call"), "tool_calls": [{"function": call}]}


def _calls(calls: object, path: str) -> list[Any]:
    """Return tool calls of any shape, with ids, as they are stored."""
    made: list[Any] = []
    for n, each in enumerate(p.check_list(calls or [], path)):
        call = blocks.call(p.check_object(each, f"{path}[{n}]"))
        if call is None:
            problem = (
                'is no tool call; it is {"id", "type": "function", "function": {"name", "arguments"}}, or has "name"'
            )
            raise InvalidValueError(f"{path}[{n}]", f'{problem} and "args", "arguments" or "input" beside an "id"')
        function = call.get("function")
        if is_mapping(function) and is_mapping(function.get("arguments")):
            call = {**call, "function": {**function, "arguments": p.text_of(function["arguments"])}}
        made.append({"id": f"call_{new_id()}", "type": "function", **call} if not call.get("id") else call)
    return made


# LangChain --------------------------------------------------------------------------------------------------------

_LANGCHAIN = ("id", "additional_kwargs", "response_metadata", "usage_metadata", "invalid_tool_calls", "artifact")


def _langchain(item: p.Part, path: str) -> p.Part:
    """Return a message of LangChain's as one of Chat Completions; what else it says is in its metadata."""
    data, kind = item, item.get("type")
    if "lc" in item:
        names = item.get("id")
        data, kind = p.check_object(item.get("kwargs"), f"{path}.kwargs"), names[-1] if names else None
    elif isinstance(item.get("data"), dict):
        data = item["data"]
    role = data.get("role") if kind in ("chat", "ChatMessage") else kind
    if not isinstance(role, str) or p.role_of(role) is None or "content" not in data:
        what = f"of the type {kind!r}, which is not known" if isinstance(kind, str) else "without a role"
        raise InvalidValueError(f"{path}.role", f"is missing: the item is {what}; {_ACCEPTED}")
    extra = p.native(data.get("additional_kwargs"))
    made = {key: data[key] for key in ("content", "name", "tool_calls", "tool_call_id") if data.get(key)}
    if not made.get("tool_calls") and extra.get("tool_calls"):
        made["tool_calls"] = extra["tool_calls"]
    metadata: dict[str, Any] = {}
    rest = {key: data[key] for key in _LANGCHAIN if data.get(key)}
    if rest:
        metadata["langchain"] = rest
    if data.get("status") == "error":
        metadata["anthropic"] = {"tool_result": {"is_error": True}}
    beside = p.unknown(data, "type", "role", *_LANGCHAIN, *made, "content", "status", "example", "lc", "data")
    return {**beside, "role": role, "content": data["content"], **made, **({"metadata": metadata} if metadata else {})}
