"""What the formats share: the parts of a message's content, its tool calls, and who speaks.

A part is stored as OpenAI has it, by its ``type``: text, image_url, input_audio, file, refusal. What another API says
of such a part besides stands in the part, under the API's name::

    {"type": "text", "text": "Hi!", "anthropic": {"cache_control": {"type": "ephemeral"}}}

A part that only one API knows is stored as that API has it, if it has a type that we know (``NATIVE``); else under
the API's name, which is then its type too::

    {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    {"type": "gemini", "gemini": {"executable_code": {"code": "1+1", "language": "PYTHON"}}}

A tool call may hold an API's name in the same way, and so does a message's metadata.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.values.checks import Clock, check_text, check_time, kind_of
from pyai_sessions.values.codec import time_text
from pyai_sessions.values.json import is_array, is_bytes, is_mapping, plain, read, write
from pyai_sessions.values.messages import Message

Part = dict[str, Any]
"""A part of a content, a block, a message of a prompt: an object of JSON."""

FORMATS = ("openai", "responses", "anthropic", "gemini", "bedrock")
"""The names of the formats. Each has a module of that name."""

APIS = frozenset(FORMATS)
"""The keys under which a part, a tool call or metadata may keep what only one API knows."""

CANONICAL = frozenset({"text", "image_url", "input_audio", "file", "refusal"})
"""https://platform.openai.com/docs/api-reference/chat/create"""

PRIVATE = frozenset({"thinking", "redacted_thinking"})
"""Blocks with a model's reasoning. They are given to no other model."""

NATIVE = PRIVATE | {
    "image", "document", "search_result", "tool_use", "tool_result", "server_tool_use", "web_search_tool_result",
    "web_fetch_tool_result", "code_execution_tool_result", "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result", "tool_search_tool_result", "container_upload", "tool_reference",
}  # fmt: skip
"""Blocks of Anthropic's that stand in a content as they are: https://platform.claude.com/docs/en/api/messages"""

SYSTEM = frozenset({"system", "developer"})
"""The roles that instruct the model."""

_ALIASES = {
    "user": ("human", "humanmessage", "humanmessagechunk"),
    "assistant": ("ai", "aimessage", "aimessagechunk", "model", "bot", "chatbot", "agent", "gpt"),
    "system": ("systemmessage",),
    "developer": (),
    "tool": ("function", "toolmessage", "functionmessage", "ipython"),
}
ROLES = {name: role for role, aliases in _ALIASES.items() for name in (role, *aliases)}
"""The role of an API by any of its names, in lower case."""

_SPEAKERS = SYSTEM | {"user", "assistant"}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")

EMPTY = "[empty message]"
"""The text of a user's message of which the API takes nothing."""

OPENING = "[the assistant speaks first]"
"""The text of a user's message before an assistant that speaks first, for APIs that want the user first."""


def module_of(api: str) -> Any:
    """Return the module of a format. It is imported when it is first used."""
    return import_module(f"pyai_sessions.prompts.formats.{api}")


# Who speaks -------------------------------------------------------------------------------------------------------


def role_of(role: str) -> str | None:
    """Return the role of APIs that a name means, in upper or lower case, or None if it means none."""
    return ROLES.get(role) or ROLES.get(role.casefold())


def instructs(role: str) -> bool:
    """Return whether a role is that of messages that instruct the model."""
    return role_of(role) in SYSTEM


def speaker(message: Message) -> str:
    """Return ``user``, ``assistant``, ``tool``, ``system``, ``developer``; or ``other``, which no API knows.

    Whatever its role, a message with tool calls is the assistant's, and one with the id of a call is a tool's.
    """
    if message.tool_calls:
        return "assistant"
    if message.role in _SPEAKERS:
        return message.role
    return "other" if message.tool_call_id is None else "tool"


# What is stored ---------------------------------------------------------------------------------------------------


def parts_of(message: Message) -> list[Part]:
    """Return the parts of a message's content; JSON of any other shape is its text."""
    content = message.content
    if content is None or content == "":
        refusal = native(message.metadata.get("openai")).get("refusal")
        return [text_part(refusal)] if isinstance(refusal, str) else []
    if is_array(content) and all(map(is_part, content)):
        return [dict(each) for each in content]
    return [text_part(text_of(content))]


def told_parts(message: Message) -> list[Part]:
    """Return the parts of a message whose role the API does not know: a text with the role, then the content."""
    return [text_part(f"[{message.role}]"), *parts_of(message)]


def result_of(message: Message) -> Any:
    """Return the result in a tool's message: text, a list of parts, None, or other JSON."""
    content = message.content
    if is_array(content) and not all(is_part(each) and each["type"] in _KNOWN for each in content):
        return text_of(content)
    return content


_KNOWN = CANONICAL | NATIVE | APIS


def is_part(value: object) -> bool:
    """Return whether *value* looks like a part of a content."""
    return is_mapping(value) and isinstance(value.get("type"), str)


def text_part(text: str) -> Part:
    """Return a text as a part."""
    return {"type": "text", "text": text}


def text_of(value: object) -> str:
    """Return a text as it is, and any other JSON as its text."""
    return value if isinstance(value, str) else write(value).decode()


def own_of(message: Message, api: str, key: str) -> Mapping[str, Any]:
    """Return the object at ``metadata[api][key]``, in which a message keeps what only one API knows."""
    return native(native(message.metadata.get(api)).get(key))


def native(value: object) -> Mapping[str, Any]:
    """Return *value* if it is an object, else an empty one."""
    return value if is_mapping(value) else {}


def without_apis(part: Mapping[str, Any]) -> Part:
    """Return a part without the keys that only one API knows."""
    return {key: value for key, value in part.items() if key not in APIS and key != "cache_control"}


# Parts that a format cannot hold ----------------------------------------------------------------------------------


def written(
    parts: Iterable[Mapping[str, Any]],
    block_of: Callable[[Mapping[str, Any]], Part | None],
    text: Callable[[str], Part],
) -> list[Part]:
    """Return stored parts as blocks of an API.

    *block_of* returns the block of a part: an empty one says nothing and is left out. None: the API has no such block,
    and a *text* tells what is missing.
    """
    made: list[Part] = []
    for each in parts:
        block = block_of(each)
        if block is None:
            told = left_out(each)
            block = {} if told is None else text(told)
        if block:
            made.append(block)
    return made


def left_out(part: Mapping[str, Any]) -> str | None:
    """Return the text that stands for a part the API cannot hold, or None if the part is private."""
    kind = part["type"]
    own = native(part.get(kind)) if kind in APIS else part
    own = native(own.get("item")) or own
    if str(own.get("type")) in (*PRIVATE, "reasoning") or own.get("thought") is True or own.keys() & _UNTOLD:
        return None
    name = own.get("type") or next((key for key, value in own.items() if is_mapping(value)), kind)
    return f"[{_mime_type(part, own) or name} left out]"


_UNTOLD = frozenset({"reasoningContent", "cachePoint"})
"""Keys of Bedrock's blocks that hold private reasoning, or a mark that no model reads."""


def _mime_type(part: Mapping[str, Any], own: Mapping[str, Any]) -> str | None:
    media = media_of(part)
    if media is not None:
        return media.mime_type
    places = (native(own.get(key)) for key in ("source", "inline_data", "file_data"))
    given = next((each.get("media_type") or each.get("mime_type") for each in places if each), None)
    return given if isinstance(given, str) else {"image_url": "image", "input_audio": "audio"}.get(part["type"])


class Media(NamedTuple):
    """The data of an image, an audio or a file."""

    mime_type: str
    data: str
    """Base64, in the standard alphabet."""


def media_of(part: Mapping[str, Any]) -> Media | None:
    """Return the data of a canonical part, or None if it is a text, or holds an address or an id instead."""
    kind = part["type"]
    if kind == "input_audio":
        audio = native(part.get(kind))
        mime_type, data = f"audio/{audio.get('format')}", audio.get("data")
    else:
        url = native(part.get("file")).get("file_data") if kind == "file" else url_of(part)
        found = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
        mime_type, data = found.groups() if found else ("", None)
    return Media(mime_type, data) if isinstance(data, str) and data and _BASE64.fullmatch(data) else None


def url_of(part: Mapping[str, Any]) -> str | None:
    """Return the address of an image_url part, which may be written without the object around it."""
    image = part.get("image_url")
    url = image.get("url") if is_mapping(image) else image
    return url if isinstance(url, str) else None


def media_part(media: Media, filename: object = None) -> Part:
    """Return data as a canonical part: an image, an audio, or else a file."""
    kind, _, subtype = media.mime_type.partition("/")
    if kind == "audio":
        return {"type": "input_audio", "input_audio": {"data": media.data, "format": subtype}}
    url = f"data:{media.mime_type};base64,{media.data}"
    if kind == "image":
        return image_part(url)
    named = {} if filename is None else {"filename": filename}
    return {"type": "file", "file": {**named, "file_data": url}}


def image_part(url: str) -> Part:
    """Return an image, by its address, as a part."""
    return {"type": "image_url", "image_url": {"url": url}}


def with_native(part: Part, api: str, own: Mapping[str, Any]) -> Part:
    """Return a part that keeps *own* under the name of an API, or the part itself if *own* is empty."""
    return {**part, api: dict(own)} if own else part


def rest_of(given: Mapping[str, Any], *keys: str) -> Part:
    """Return an object without these keys."""
    return {key: value for key, value in given.items() if key not in keys}


# Tool calls -------------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call of a tool, as an assistant's message asks for it."""

    id: str
    name: str
    arguments: Any
    """JSON text as a rule; models write what is not JSON, and frameworks store an object."""
    stored: Mapping[str, Any]

    @property
    def input(self) -> Part:
        """The arguments as an object: ``{}`` if empty, ``{"arguments": "<the text>"}`` if they are not an object."""
        given = self.arguments
        try:
            value: object = read(given or "{}") if isinstance(given, str) else given
        except ValueError:
            value = None
        return dict(value) if is_mapping(value) else {"arguments": given}


def calls_of(message: Message) -> list[Call]:
    """Return the tool calls of a message. Fields that are missing or of a wrong type get a stand-in."""
    return [_call(each, n) for n, each in enumerate(message.tool_calls or ())]


def _call(value: object, n: int) -> Call:
    stored = native(value)
    custom = native(stored.get("custom"))
    function = custom or native(stored.get("function"))
    arguments = {"input": custom.get("input")} if custom else function.get("arguments")
    return Call(
        text_of(stored.get("id") or f"call_{n}"),
        text_of(function.get("name") or "unknown"),
        "" if arguments is None else arguments,
        stored,
    )


def call_of(call_id: object, name: object, arguments: Any, api: str, own: Mapping[str, Any]) -> Part:
    """Return a tool call as it is stored; without an id, or with the name ``unknown``, where a block has none."""
    function = {"name": name if isinstance(name, str) else "unknown", "arguments": text_of(arguments)}
    named = {"id": call_id} if isinstance(call_id, str) and call_id else {}
    return with_native({**named, "type": "function", "function": function}, api, own)


class CallIds:
    """Makes ids of tool calls that an API takes: of few characters, short, and each used once."""

    def __init__(self, limit: int, *, unique: bool) -> None:
        self._limit = limit
        self._unique = unique
        self._given: dict[str, str] = {}
        self._current: dict[str, str] = {}

    def of_call(self, call_id: str) -> str:
        """Return the id to write for a call."""
        made = base = fit(call_id, self._limit) or "call"
        n = 0
        while made in self._given and (self._unique or self._given[made] != call_id):
            n += 1
            made = f"{base[: self._limit - 8]}_{n}"
        self._given[made] = call_id
        self._current[call_id] = made
        return made

    def of_result(self, call_id: str) -> str:
        """Return the id that was written for the latest call of that id."""
        return self._current.get(call_id) or fit(call_id, self._limit) or "call"


class Result(NamedTuple):
    """The fields of the message that a tool's result is stored as."""

    tool_call_id: str | None
    content: Any
    metadata: Mapping[str, Any] = {}
    name: str | None = None


def fit(name: str, limit: int) -> str:
    """Return a name with only the letters, digits, ``_`` and ``-`` that APIs take, of at most *limit*."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:limit]


# What is given ----------------------------------------------------------------------------------------------------


def unknown(item: Mapping[str, Any], *known: str) -> Part:
    """Return the unknown fields of an item. They are kept beside the message and sent to no API."""
    return {key: value for key, value in item.items() if key not in known and value is not None and value != []}


def given_object(value: object, path: str) -> Part:
    """Return an object of the caller's as plain JSON: clients' objects as they are sent, bytes as base64."""
    try:
        sent = _sent(value)
    except RecursionError as err:
        raise InvalidValueError(path, "is nested too deeply") from err
    if not is_mapping(sent):
        given, problem = kind_of(value), "it is a Message, a dict, or an object of the API's client"
        if isinstance(sent, Iterable) and not isinstance(sent, str):
            problem = "it is one message; give the messages themselves, *messages to append"
        raise InvalidValueError(path, f"is {given}; {problem}")
    return {check_text(key, f"a key of {path}"): plain(each, f"{path}.{key}") for key, each in sent.items()}


def given_message(value: object, path: str) -> Part:
    """Return a message of the caller's as `given_object` does. Its time may be of any type that a `Message` takes."""
    time = value.get("timestamp") if is_mapping(value) else None
    if is_mapping(value) and time is not None and not isinstance(time, str):
        value = {**value, "timestamp": time_text(check_time(time, f"{path}.timestamp"))}
    return given_object(value, path)


def _sent(value: Any) -> Any:
    if callable(dump := getattr(value, "model_dump", None)):
        return _sent(dump(mode="json", exclude_none=True, warnings=False))
    if is_mapping(value):
        return {key: _sent(each) for key, each in value.items()}
    if is_array(value):
        return [_sent(each) for each in value]
    return b64encode(value).decode() if is_bytes(value) else value


def check_object(value: object, path: str) -> Part:
    """Return *value*, or raise if it is not an object."""
    if not isinstance(value, dict):
        raise InvalidValueError(path, f"is {kind_of(value)}; it is a dict")
    return value  # pyright: ignore[reportUnknownVariableType]  (plain JSON: its keys are text)


def check_list(value: object, path: str, kinds: str = "a list") -> list[Any]:
    """Return *value*, or raise if it is not a list."""
    if not isinstance(value, list):
        raise InvalidValueError(path, f"is {kind_of(value)}; it is {kinds}")
    return value  # pyright: ignore[reportUnknownVariableType]  (plain JSON)


def check_part(value: object, path: str) -> Part:
    """Return *value*, or raise if it is not an object with a ``type``, or is a text part without text."""
    part = check_object(value, path)
    if check_text(part.get("type"), f"{path}.type") == "text":
        check_text(part.get("text"), f"{path}.text")
    return part


def new_message(path: str, clock: Clock, role: str, content: Any, **fields: Any) -> Message:
    """Return a new message. An error names the *path* of the item that it was made from."""
    try:
        return Message(role, content, timestamp=clock(), **{key: each for key, each in fields.items() if each})
    except InvalidValueError as err:
        raise InvalidValueError(path, f"is not to be stored: {err}") from err
