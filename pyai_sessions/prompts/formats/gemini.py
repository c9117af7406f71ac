"""Gemini's contents, as google-genai takes them: https://ai.google.dev/api/caching#Content.

::

    {"role": "user", "parts": [{"function_response": {"name": text, "response": object, "id"?}}, {"text": text}, ...]}
    {"role": "model", "parts": [{"text": text}, {"function_call": {"name": text, "args": object, "id"?}}, ...]}
    system_instruction: {"parts": [{"text": text}]}

camelCase, as the API itself has it, is read too; snake_case is written, as the client's own dicts have it. Base64 is
written in the standard alphabet. Fields that are None count as absent, absent ``args`` are ``{}``, and no role is the
user's.

As it is stored, and back:

- ``function_call`` is a tool call. One that has no id gets one, which is not written back: results then belong to
  calls by name and order. A ``function_response`` is a tool's message, without a call's id if no such call waits.
  What it says besides name and response is in ``metadata["gemini"]["function_response"]``. The response
  ``{"output": text}`` is that text, any other is the object. What else is in the user's content follows as a user's
  message.
- ``inline_data`` is image_url, input_audio or a file, and ``file_data`` with an image's address is image_url, where
  nothing is lost by that. Thoughts and all other parts are kept under ``"gemini"``, as is what else a text or a call
  says (``thought_signature``). Where calls stand among a model's parts is in ``metadata["gemini"]["calls_at"]``, if
  they are not the last.
- System messages that open the conversation are the system instruction. A later one is told as a user's message that
  begins with ``[system]``, since the API has only the one; other roles in the same way: ``[critic]``.
- Neighbours of one role are one content, results first: the API wants turns of user and model.
- Empty text is left out; a user's message with nothing left is ``[empty message]``. A message of another role with
  nothing left is left out.
- A call whose arguments are not a JSON object gets the args ``{"arguments": "<the text>"}``. Authors' names are left
  out.

Gemini 3 asks for the thought signatures of the calls in the turn that goes on. A turn that another model began has
none; let it end before Gemini goes on (https://ai.google.dev/gemini-api/docs/thought-signatures).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats import turns
from pyai_sessions.values.checks import Clock, check_text, shown
from pyai_sessions.values.json import is_array, is_mapping, thawed
from pyai_sessions.values.messages import Message
from pyai_sessions.values.tokens import new_id

_INLINE = frozenset({
    "image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", "audio/wav", "audio/mp3", "application/pdf",
})  # fmt: skip
"""What both can hold: https://ai.google.dev/gemini-api/docs/file-input-methods."""

_IMAGE_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".heif": "image/heif",
}
_ENDING = re.compile(r"\.\w+(?=$|[?#])")
_STANDARD_ALPHABET = str.maketrans("-_", "+/")
_FREE = frozenset({"args", "response", "part_metadata"})
"""Fields whose keys are the users' own."""


# Writing ----------------------------------------------------------------------------------------------------------


def write(messages: Sequence[Message]) -> tuple[list[p.Part], p.Part | None]:
    """Return the contents of a call, and its system instruction."""
    opening, rest = turns.split_opening(messages)
    said = turns.from_a_user(turns.merged(_turns(rest), _is_result), rest, lambda text: [{"text": text}])
    system = [part for each in opening for part in _written(p.parts_of(each), frozenset({"text"}))]
    return (
        thawed([{"role": role, "parts": parts} for role, parts in said]),
        thawed({"parts": system}) if system else None,
    )


def _turns(messages: Sequence[Message]) -> Iterator[tuple[str, list[p.Part]]]:
    names: dict[str, str] = {}
    for message in _in_order_of_calls(messages):
        kind = p.speaker(message)
        if kind == "assistant":
            names.update((each.id, each.name) for each in p.calls_of(message))
            calls = [_function_call(each) for each in p.calls_of(message)]
            yield "model", turns.woven(_written(p.parts_of(message), _TAKEN), calls, message, "gemini")
        elif kind == "tool":
            yield "user", [_function_response(message, names.get(message.tool_call_id or ""))]
        elif kind == "user":
            yield "user", _written(p.parts_of(message), _TAKEN) or [{"text": p.EMPTY}]
        else:
            yield "user", _written(p.told_parts(message), _TAKEN)


def _in_order_of_calls(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield the messages; results of calls to one function, if they have no ids there, in the order of the calls."""
    run: list[Message] = []
    calls: list[p.Call] = []  # of all messages since the last results: neighbours are one content
    for message in messages:
        if p.speaker(message) == "tool":
            run.append(message)
            continue
        yield from _sorted(run, calls)
        run, calls = [], [*([] if run else calls), *p.calls_of(message)]
        yield message
    yield from _sorted(run, calls)


def _sorted(run: Sequence[Message], calls: Sequence[p.Call]) -> Iterator[Message]:
    position = {each.id: n for n, each in enumerate(calls)}
    name = {each.id: each.name for each in calls}

    def place(message: Message) -> tuple[str, str]:
        call_id = message.tool_call_id or ""
        return ("id", call_id) if "id" in _own_response(message) else ("name", name.get(call_id, ""))

    queues: dict[tuple[str, str], deque[Message]] = {}
    for message in sorted(run, key=lambda each: position.get(each.tool_call_id or "", len(calls))):
        queues.setdefault(place(message), deque()).append(message)
    return (queues[place(each)].popleft() for each in run)


def _function_call(call: p.Call) -> p.Part:
    own = p.native(call.stored.get("gemini"))
    inner = p.native(own.get("function_call"))
    return {"function_call": {"name": call.name, "args": call.input, **inner}, **p.rest_of(own, "function_call")}


def _own_response(message: Message) -> Mapping[str, Any]:
    return p.own_of(message, "gemini", "function_response")


def _function_response(message: Message, name: str | None) -> p.Part:
    response = {"name": name or message.name or "unknown", "response": _response(message), **_own_response(message)}
    return {"function_response": response, **p.own_of(message, "gemini", "part")}


def _response(message: Message) -> Mapping[str, Any]:
    result = p.result_of(message)
    if is_mapping(result):
        return result
    if is_array(result):
        result = "\n".join(part["text"] for part in _written(result, frozenset({"text"})) if "text" in part)
    return {} if result is None else {"output": result}


def _is_result(part: p.Part) -> bool:
    return "function_response" in part


def _written(given: Iterable[Mapping[str, Any]], taken: frozenset[str]) -> list[p.Part]:
    return p.written(given, lambda part: _part(part, taken), lambda text: {"text": text})


def _part(part: Mapping[str, Any], taken: frozenset[str]) -> p.Part | None:
    """Return a stored part as Gemini's, empty if it says nothing; None if Gemini takes none such here."""
    kind = part["type"]
    own = p.native(part.get("gemini"))
    if kind == "gemini" and kind in taken and own:
        return dict(own)
    made = _MAKE[kind](part) if kind in _MAKE and kind in taken else None
    if made is None or (made == {"text": ""} and not own):
        return made and {}
    return {**made, **own}


def _text(part: Mapping[str, Any]) -> p.Part | None:
    text = part.get(part["type"])
    return {"text": text} if isinstance(text, str) else None


def _data(part: Mapping[str, Any]) -> p.Part | None:
    media = p.media_of(part)
    if media is None:
        return _address(part)
    if media.mime_type not in _INLINE:
        return None
    filename = p.native(part.get("file")).get("filename")
    named = {"display_name": filename} if isinstance(filename, str) else {}
    return {"inline_data": {"mime_type": media.mime_type, "data": media.data, **named}}


def _address(part: Mapping[str, Any]) -> p.Part | None:
    url = p.url_of(part)
    if url is None or not url.startswith(("https://", "http://")):
        return None
    endings = _ENDING.findall(url.lower())
    mime_type = _IMAGE_TYPES.get(endings[0]) if endings else None
    return {"file_data": {"file_uri": url, **({"mime_type": mime_type} if mime_type else {})}}


_MAKE: dict[str, Callable[[Mapping[str, Any]], p.Part | None]] = {
    "text": _text,
    "refusal": _text,
    "image_url": _data,
    "input_audio": _data,
    "file": _data,
}
_TAKEN = frozenset(_MAKE) | {"gemini"}


# Reading ----------------------------------------------------------------------------------------------------------


def read(items: Iterable[tuple[str, p.Part]], system: object, clock: Clock, calls: Mapping[str, str]) -> list[Message]:
    """Return the messages that *items* say, the system instruction first. *calls* still wait for their results."""
    messages: list[Message] = []
    if system is not None:
        given = {"parts": [{"text": system}]} if isinstance(system, str) else system
        parts = _checked(snake(p.given_object(given, "prompt.system")), "prompt.system")
        messages.append(p.new_message("prompt.system", clock, "system", _content(parts)))
    waiting = _OpenCalls(calls)

    def fields_of(content: p.Part, path: str) -> list[p.Part]:
        role = content.get("role", "user")
        if role not in _ROLES:
            raise InvalidValueError(f"{path}.role", f"is {shown(role)}; it is 'user' or 'model'")
        if "content" in content and "parts" not in content:
            raise InvalidValueError(f"{path}.parts", "is missing; an item with content is read without format=")
        if "parts" not in content and content != _SILENCE:
            raise InvalidValueError(f"{path}.parts", "is missing; it is a list of parts: [{'text': 'Hello!'}]")
        parts, place = _checked(content, path), f"{path}.parts"
        if role == "model":
            made = [turns.of_model(parts, place, "gemini", _read_call, _content)]
            waiting.add(made[0]["tool_calls"])
        else:
            made = turns.of_user(parts, place, lambda part, at: _read_result(part, at, waiting), _content)
            waiting.end_turn()
        return made

    return [*messages, *turns.read(((path, snake(item)) for path, item in items), fields_of, clock, "parts")]


_ROLES = ("user", "model", "function")
"""``function`` is what older clients say where results stand; ``user`` is written."""


_SILENCE = {"role": "model"}
"""What the client returns if the model said nothing."""


class _OpenCalls:
    """The calls of the model's latest turn that have no result yet, as (id, name)."""

    def __init__(self, calls: Mapping[str, str]) -> None:
        self._open = list(calls.items())
        self._turn_is_over = False

    def add(self, calls: Iterable[p.Part]) -> None:
        """Take the calls of a model's content."""
        if self._turn_is_over:
            self._open.clear()
        self._turn_is_over = False
        self._open += [(each["id"], each["function"]["name"]) for each in calls]

    def end_turn(self) -> None:
        """Let the next calls be those of a new turn."""
        self._turn_is_over = True

    def answer(self, call_id: str | None, name: str) -> str | None:
        """Return the id of the call that a result is for; None if there is none."""
        found = next((each for each in self._open if each[0] == call_id), None)
        if found is None and call_id is None:
            found = next((each for each in self._open if each[1] == name), None)
        if found is not None:
            self._open.remove(found)
        return found[0] if found else None


def _read_call(part: p.Part, path: str) -> p.Part | None:
    if "function_call" not in part:
        return None
    given = p.check_object(part["function_call"], f"{path}.function_call")
    check_text(given.get("name"), f"{path}.function_call.name")
    p.check_object(given.get("args", {}), f"{path}.function_call.args")
    if "id" in given:
        check_text(given["id"], f"{path}.function_call.id")
    return {"id": f"call_{new_id()}", **call(part)}


def call(part: p.Part) -> p.Part:
    """Return a ``function_call`` as a tool call; without an id if it has none."""
    given = p.native(part["function_call"])
    inner = p.rest_of(given, "name", "args")
    own = {**p.rest_of(part, "function_call"), **({"function_call": inner} if inner else {})}
    return p.call_of(given.get("id"), given.get("name"), given.get("args") or {}, "gemini", own)


def _read_result(part: p.Part, path: str, calls: _OpenCalls) -> p.Result | None:
    if not _is_result(part):
        return None
    given = p.check_object(part["function_response"], f"{path}.function_response")
    name = check_text(given.get("name"), f"{path}.function_response.name")
    call_id = check_text(given["id"], f"{path}.function_response.id") if "id" in given else None
    if given.get("response") is not None:
        p.check_object(given["response"], f"{path}.function_response.response")
    return result(part)._replace(tool_call_id=calls.answer(call_id, name) or call_id)


def result(part: p.Part) -> p.Result:
    """Return what a ``function_response`` says. The response ``{"output": text}`` is that text."""
    given = p.native(part["function_response"])
    said, outer = p.rest_of(given, "name", "response"), p.rest_of(part, "function_response")
    response = given.get("response")
    if is_mapping(response) and set(response) == {"output"} and isinstance(response["output"], str):
        response = response["output"]
    call_id, name = (each if isinstance(each, str) else None for each in (given.get("id"), given.get("name")))
    return p.Result(call_id, response, turns.own("gemini", function_response=said, part=outer), name)


def _content(parts: Sequence[p.Part]) -> Any:
    """Return parts as they are stored; a single text as text."""
    return turns.content_of([stored_part(each) for each in parts])


def stored_part(part: p.Part) -> p.Part:
    """Return a part as it is stored: as its canonical part, if that is written as the same part again."""
    candidate = _canonical(part)
    if candidate is not None and _part(candidate, _TAKEN) == part:
        return candidate
    return {"type": "gemini", "gemini": part}


def _canonical(part: p.Part) -> p.Part | None:
    if part.get("thought"):
        return None
    if isinstance(part.get("text"), str):
        return p.with_native(p.text_part(part["text"]), "gemini", p.rest_of(part, "text"))
    blob = p.native(part.get("inline_data"))
    if isinstance(blob.get("data"), str) and isinstance(blob.get("mime_type"), str):
        media = p.Media(blob["mime_type"], blob["data"])
        made = p.media_part(media, blob.get("display_name"))
        return p.with_native(made, "gemini", p.rest_of(part, "inline_data"))
    uri = p.native(part.get("file_data")).get("file_uri")
    return p.with_native(p.image_part(uri), "gemini", p.rest_of(part, "file_data")) if isinstance(uri, str) else None


def _checked(content: p.Part, path: str) -> list[p.Part]:
    parts = p.check_list(content.get("parts", []), f"{path}.parts")
    return [_checked_part(each, f"{path}.parts[{n}]") for n, each in enumerate(parts)]


def _checked_part(value: object, path: str) -> p.Part:
    part = p.check_object(value, path)
    if p.is_part(part):
        problem = "is no field of Gemini's parts; messages of Vercel's AI SDK are read without format="
        raise InvalidValueError(f"{path}.type", problem)
    if "text" in part:
        check_text(part["text"], f"{path}.text")
    blob = part.get("inline_data")
    if is_mapping(blob) and isinstance(blob.get("data"), str):
        return {**part, "inline_data": {**blob, "data": blob["data"].translate(_STANDARD_ALPHABET)}}
    return part


def snake(value: Any) -> Any:
    """Return the API's own fields in snake_case, without those that are None; what is the users' own stays."""
    if is_array(value):
        return [snake(each) for each in value]
    if not is_mapping(value):
        return value
    named = ((re.sub(r"(?<=[a-z0-9])[A-Z]", r"_\g<0>", key).lower(), each) for key, each in value.items())
    return {key: each if key in _FREE else snake(each) for key, each in named if each is not None}
