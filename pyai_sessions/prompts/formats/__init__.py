"""The formats of model APIs: a conversation's messages as their clients take them, and back.

Messages are stored in the shape of OpenAI's Chat Completions. What another API says beyond that is kept beside it,
under that API's name, so that what was read in a format is written in it again as it was; the other formats leave it
out, or tell in a short text what is missing. Each format's module says what it makes of what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats.parts import FORMATS, given_message, module_of
from pyai_sessions.values.checks import Clock, check_choice, check_items, kind_of
from pyai_sessions.values.json import is_mapping
from pyai_sessions.values.messages import Message


class Prompt(list[dict[str, Any]]):
    """The messages of a model call, as its client takes them, and the system text that some formats keep apart.

    Attributes:
        system: For anthropic text or a list of text blocks, and for bedrock a list of blocks, what ``system=`` takes;
            for gemini a Content, what ``system_instruction`` takes. None where there is none, and for openai and
            responses, whose list has it.

    >>> prompt = write_prompt([Message("system", "Be brief."), Message("user", "Hello!")], "anthropic")
    >>> prompt, prompt.system
    ([{'role': 'user', 'content': 'Hello!'}], 'Be brief.')

    """

    def __init__(self, messages: Iterable[dict[str, Any]] = (), *, system: Any = None) -> None:
        super().__init__(messages)
        self.system: Any = system


def write_prompt(messages: Sequence[Message], format: str) -> Prompt:  # noqa: A002 (what its callers call it)
    """Return *messages* as the API of a *format* takes them, in copies that may be changed.

    Nothing that a message holds makes this fail. The prompt keeps the API's rules if each call of a tool is followed by
    its results, and the first message after the system's is a user's.

    Raises:
        InvalidValueError: There is no such *format*.

    """
    written, system = _module(format).write(messages)
    return Prompt(written, system=system)


def read_prompt(
    items: Iterable[object],
    format: str,  # noqa: A002 (likewise)
    *,
    clock: Clock,
    calls: Mapping[str, str] | None = None,
) -> list[Message]:
    """Return new messages that say what *items* say: dicts of the *format*, or its client's own objects.

    A `Prompt`'s ``system`` comes first, as a system message. A `Message`, and a dict with all of its fields, is taken
    as it is. Each other one has the time that *clock* tells, or its own. *calls* are the tool calls that still wait for
    a result when *items* begin, in their order: the function's name by the call's id. The format ``"openai"``
    understands what other APIs say, too.

    Raises:
        InvalidValueError: There is no such *format*, or an item is not of it; the error names the place, as in
            ``items[3].content[0].text``.

    """
    if isinstance(items, (Message, str)) or is_mapping(items):
        raise InvalidValueError("items", f"is {kind_of(items)}; it is a list of messages")
    from pyai_sessions.prompts.formats import items as any_items

    given = [(f"items[{n}]", item) for n, item in enumerate(check_items(items, "items", "messages"))]
    if format == "openai" and given and all(any_items.is_geminis(each) for _, each in given):
        format = "gemini"  # noqa: A001
    module = _module(format)
    messages: list[Message] = module.read((), items.system, clock, {}) if isinstance(items, Prompt) else []
    if format == "openai":
        return [*messages, *any_items.Reader(clock, calls or {}).messages(given)]
    run: list[tuple[str, dict[str, Any]]] = []
    for path, item in given:
        found = any_items.own(item, path)
        object_ = {} if found else given_message(item, path)
        if found is None and not any_items.says_more(object_):
            run.append((path, object_))
            continue
        messages += module.read(run, None, clock, calls or {})
        read_one = partial(_read_one, module, clock)
        messages += [found] if found else any_items.with_own(object_, path, read_one)
        run, calls = [], None
    return [*messages, *module.read(run, None, clock, calls or {})]


def read_appended(items: Iterable[object], *, clock: Clock) -> list[Message]:
    """Return the messages that are to be appended to a session whose history is not loaded.

    *items* are what `read_prompt` takes without a format, and dicts of a `Message`'s fields with any role and content.
    A result whose call is not among them has the name of its function; the history pairs it with the call.

    Raises:
        InvalidValueError: An item is none of these; the error names the place, as in ``messages[3].content``.

    """
    from pyai_sessions.prompts.formats.items import Reader

    return list(Reader(clock, None).messages((f"messages[{n}]", item) for n, item in enumerate(items)))


def _read_one(module: Any, clock: Clock, item: dict[str, Any], path: str) -> list[Message]:
    messages: list[Message] = module.read([(path, item)], None, clock, {})
    return messages


def _module(name: str) -> Any:
    check_choice(name, "format", *FORMATS)
    return module_of(name)
