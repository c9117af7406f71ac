"""What Anthropic, Bedrock and Gemini share: user and model take turns, and each turn is a list of blocks.

A model's blocks may be calls of tools, a user's may be their results. Each call is stored as a tool call of the model's
message, each result as a message of its own, before what else the user says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.values.checks import Clock
from pyai_sessions.values.json import is_array
from pyai_sessions.values.messages import Message

Blocks = Sequence[p.Part]


# Writing ----------------------------------------------------------------------------------------------------------


def split_opening(messages: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    """Return the system messages that open the conversation, and all others."""
    count = next((n for n, each in enumerate(messages) if p.speaker(each) not in p.SYSTEM), len(messages))
    return messages[:count], messages[count:]


def merged(
    turns: Iterable[tuple[str, Any]], is_result: Callable[[p.Part], bool], blocks: Callable[[Any], Blocks] = list
) -> list[tuple[str, Any]]:
    """Return (role, content) pairs in which each role differs from the one before; empty contents are left out.

    Of contents that are joined, the results of tools come first. *blocks* returns the blocks of a content.
    """
    made: list[tuple[str, Any]] = []
    for role, content in turns:
        if made and made[-1][0] == role and content:
            joined = [*blocks(made[-1][1]), *blocks(content)]
            made[-1] = role, sorted(joined, key=lambda block: not is_result(block))
        elif content:
            made.append((role, content))
    return made


def from_a_user(
    turns: Sequence[tuple[str, Any]], said: Sequence[Message], content: Callable[[str], Any]
) -> Sequence[tuple[str, Any]]:
    """Return (role, content) pairs of which the first is a user's, if anything was *said*.

    The assistant's own words before it stay the assistant's, with the tools that it called: to quote them as a user's
    message would let the model take them for the user's. *content* makes a content of a text.
    """
    if turns and turns[0][0] == "user":
        return turns
    return [("user", content(p.OPENING if turns else p.EMPTY)), *turns] if said else turns


def woven(blocks: Blocks, calls: Blocks, message: Message, api: str) -> list[p.Part]:
    """Return blocks and calls in one list: the calls where the message's metadata says, else last."""
    made = list(blocks)
    places = p.native(message.metadata.get(api)).get("calls_at")
    at = [each for each in places if isinstance(each, int)] if is_array(places) else []
    for n, call in enumerate(calls):
        made.insert(at[n] if n < len(at) else len(made), call)
    return made


def call_places(kinds: Sequence[bool]) -> p.Part:
    """Return where the calls stand among blocks, as metadata: nothing if they are the last, as is usual."""
    places = [n for n, is_call in enumerate(kinds) if is_call]
    usual = len(kinds) - len(places)
    return {"calls_at": places} if places and places[0] != usual else {}


# Reading ----------------------------------------------------------------------------------------------------------


def read(
    items: Iterable[tuple[str, p.Part]],
    fields_of: Callable[[p.Part, str], Sequence[p.Part]],
    clock: Clock,
    content: str,
) -> list[Message]:
    """Return the messages that items are; *fields_of* returns the fields of each message that one becomes.

    What an item says besides its role and its *content* is kept beside the last of its messages.
    """
    messages: list[Message] = []
    for path, item in items:
        made = [p.new_message(path, clock, **fields) for fields in fields_of(item, path)]
        made[-1].keep_unknown(p.unknown(item, "role", content))
        messages += made
    return messages


def of_model(
    blocks: Blocks,
    path: str,
    api: str,
    call_of: Callable[[p.Part, str], p.Part | None],
    stored: Callable[[Blocks], Any],
) -> p.Part:
    """Return the fields of the message that stores a model's blocks.

    *call_of* returns a block as a tool call, or None if it is none; *stored* returns the other blocks as content.
    """
    calls = [call_of(each, f"{path}[{n}]") for n, each in enumerate(blocks)]
    rest = [each for each, call in zip(blocks, calls, strict=True) if call is None]
    places = call_places([call is not None for call in calls])
    return {
        "role": "assistant",
        "content": stored(rest) if rest else None,
        "tool_calls": [call for call in calls if call is not None],
        "metadata": {api: places} if places else None,
    }


def of_user(
    blocks: Blocks, path: str, result_of: Callable[[p.Part, str], p.Result | None], stored: Callable[[Blocks], Any]
) -> list[p.Part]:
    """Return the fields of the messages that store a user's blocks: the results of tools, then what the user says."""
    results = [result_of(each, f"{path}[{n}]") for n, each in enumerate(blocks)]
    made = [{"role": "tool", **each._asdict()} for each in results if each is not None]
    rest = [each for each, result in zip(blocks, results, strict=True) if result is None]
    return made if made and not rest else [*made, {"role": "user", "content": stored(rest)}]


def content_of(parts: Sequence[p.Part]) -> Any:
    """Return stored parts as the content of a message: a single text as text."""
    single = len(parts) == 1 and set(parts[0]) == {"type", "text"}
    return parts[0]["text"] if single else parts


def own(api: str, **said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return metadata that keeps what only one API knows, without what is empty."""
    kept = {key: each for key, each in said.items() if each}
    return {api: kept} if kept else {}
