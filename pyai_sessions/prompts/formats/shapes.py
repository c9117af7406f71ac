"""Prompt messages: stored messages of any shape, translated into the one shape that all formats write.

`add_message` stores what it is given. A content may hold the tool calls and results of an API as blocks, a role may be
another API's name for it, a tool call may be a framework's. `prompt_messages` translates all of that, and changes
nothing stored: `pyai_sessions.prompts.formats.blocks` knows the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats import turns
from pyai_sessions.prompts.formats.blocks import RESULTS, Block, block_kind, block_part, call, call_block, is_foreign
from pyai_sessions.values.checks import is_utf8
from pyai_sessions.values.json import is_array, is_mapping
from pyai_sessions.values.messages import Message, metadata_of


@dataclass(slots=True, eq=False)
class PromptMessage:
    """A stored message, or a part of it, in the shape that formats write.

    Attributes:
        message: The message in the shape that formats write. Its role is one of the five, or one that no API knows.
        source: The stored message, or None if none is stored: the result that says that a call was interrupted.
        blocks: The places of its blocks in the stored content; None means the whole message.
        call_blocks: The place of the block of each tool call; empty if the calls are not blocks.
        unnamed: The ids that were given to tool calls without one.
        kept: The places of the tool calls that are left after some were taken out; None means all.
        given: The message to give in the shape in which messages were added, if none is stored.

    """

    message: Message
    source: Message | None
    blocks: tuple[int, ...] | None = None
    call_blocks: tuple[int, ...] = ()
    unnamed: frozenset[str] = frozenset()
    kept: tuple[int, ...] | None = None
    given: Message | None = None

    def with_calls(self, kept: Sequence[int]) -> PromptMessage | None:
        """Return the message with only the tool calls at the places *kept*, or None if nothing is left."""
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


def remaining(said: Sequence[PromptMessage]) -> tuple[Any, Any]:
    """Return the content and tool calls of a stored message as they are stored, without the parts missing in *said*."""
    source = said[0].source
    if source is None:
        return None, None
    content, calls = source.content, source.tool_calls
    if all(each.blocks is not None for each in said):
        left = sorted(n for each in said for n in each.blocks or ())
        content = [content[n] for n in left] if len(left) < len(content) else content
    for each in said:
        if each.kept is not None and calls:
            named = {call.get("id") for call in each.message.tool_calls or ()}
            calls = (
                [call for call in calls if p.native(call).get("id") in named]
                if each.call_blocks
                else [calls[n] for n in each.kept]
            )
    return content, calls or None


INTERRUPTED = "[interrupted: this call has no result, and whether it took effect is not known]"


def interrupted_result(caller: PromptMessage, n: int) -> PromptMessage:
    """Return a result that says that the call at place *n* was interrupted."""
    call = p.calls_of(caller.message)[n]
    own_id = p.native(p.native(call.stored.get("gemini")).get("function_call")).get("id")
    metadata: dict[str, Any] = {"anthropic": {"tool_result": {"is_error": True}}}
    if own_id:
        metadata["gemini"] = {"function_response": {"id": own_id}}
    fields: dict[str, Any] = {"role": "tool", "tool_calls": None, "name": None, "content": INTERRUPTED}
    message = altered(caller.message, **fields, tool_call_id=call.id, metadata=metadata)
    block: Block = caller.source.content[caller.call_blocks[n]] if caller.call_blocks and caller.source else {}
    make = _INTERRUPTED.get(block_kind(block))
    if make is not None:
        content = [make(call.id, call.name)]
        return PromptMessage(message, None, given=altered(message, role="user", tool_call_id=None, content=content))
    if call.id in caller.unnamed:
        return PromptMessage(message, None, given=altered(message, tool_call_id=None, name=call.name))
    return PromptMessage(message, None)


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


def prompt_messages(message: Message, speakers: Mapping[str, str] | None = None) -> Sequence[PromptMessage]:
    """Return a stored message as prompt messages: one, or one for each tool result in its content and one for the rest.

    *speakers* gives the meanings of roles. It comes before the names that are known.
    """
    role, content, calls = message.role, message.content, message.tool_calls
    if type(content) is str and calls is None and not speakers and role in _PLAIN and message.tool_call_id is None:
        return (PromptMessage(message, message),)  # nearly all are so
    meant = _role(message, speakers)
    if calls is None and (type(content) is str or content is None):
        return (PromptMessage(message if meant == role else altered(message, role=meant), message),)
    if meant != "tool" and is_mapping(content) and block_kind(content) is not None:
        content = [content]
    if is_array(content) and is_foreign(content, meant):
        return _from_blocks(message, content, meant)
    return (_with_calls(message, meant),)


def plain_text(message: Message) -> str | None:
    """Return the text of a message that is nothing but a user's or an assistant's text; None of any other.

    Most messages are so. Every format and framework writes them with the text as it is, so converting one need not ask
    for blocks, calls and what an API keeps.
    """
    text = message.content
    is_text = (
        type(text) is str
        and message.role in _SPOKEN
        and message.tool_calls is None
        and message.tool_call_id is None
        and p.APIS.isdisjoint(metadata_of(message))
    )
    return text if is_text and is_utf8(text) and text.strip() else None


def says_nothing(message: Message) -> bool:
    """Return whether a message gives no model anything: it is the assistant's, without content, calls and a refusal.

    Frameworks store such messages for what is theirs alone, such as the checkpoints of a graph.
    """
    return (
        message.content is None
        and not message.tool_calls
        and message.tool_call_id is None
        and p.role_of(message.role) == "assistant"
        and p.APIS.isdisjoint(message.metadata)
    )


_SPOKEN = frozenset({"user", "assistant"})


def altered(message: Message, **fields: Any) -> Message:
    """Return a copy of a message with other fields. They are neither checked nor frozen, so do not store it."""
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


def _unnamed_id(message: Message, n: int) -> str:
    """Return the id of a tool call without one, by its place in the message. All APIs take its characters."""
    return f"{message.message_id}_{n}"


def _with_calls(message: Message, role: str) -> PromptMessage:
    """Return a message with its tool calls, of any shape, in the shape that formats write."""
    calls: list[Any] = []
    unnamed: list[str] = []
    for n, each in enumerate(message.tool_calls or ()):
        found = call(each)
        if found is not None and not found.get("id"):
            found = {**found, "id": _unnamed_id(message, n)}
            unnamed.append(found["id"])
        calls.append(each if found is None else found)
    if role == message.role and all(made is each for made, each in zip(calls, message.tool_calls or (), strict=True)):
        return PromptMessage(message, message)
    fields = {"tool_calls": calls} if calls else {}
    return PromptMessage(altered(message, role=role, **fields), message, unnamed=frozenset(unnamed))


# Contents ---------------------------------------------------------------------------------------------------------


def _from_blocks(message: Message, content: Sequence[Any], role: str) -> Sequence[PromptMessage]:
    """Return the blocks of a content as prompt messages, in order; in a user's message the results come first."""
    made: list[PromptMessage] = []
    rest: list[int] = []
    for n, block in enumerate(content):
        kind = block_kind(block)
        if kind in RESULTS:
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
        return (PromptMessage(only.message, message, None, only.call_blocks, only.unnamed),)
    return made


def _result(message: Message, block: Block, n: int) -> PromptMessage:
    result = RESULTS[block_kind(block)](block)
    return PromptMessage(altered(message, role="tool", tool_calls=None, **result._asdict()), message, (n,))


def _rest(
    message: Message, content: Sequence[Any], blocks: Sequence[int], role: str, *, last: bool = False
) -> PromptMessage:
    """Return the blocks that are not results as one prompt message; calls beside the content go to the *last* one."""
    calls: list[Any] = []
    call_blocks: list[int] = []
    unnamed: list[str] = []
    parts: list[Any] = []
    for n in blocks:
        call = call_block(content[n])
        if call is None:
            parts.append(block_part(content[n]))
            continue
        if not call.get("id"):
            call = {**call, "id": _unnamed_id(message, n)}
            unnamed.append(call["id"])
        calls.append(call)
        call_blocks.append(n)
    metadata = dict(message.metadata)
    if calls:
        places = turns.call_places([n in call_blocks for n in blocks])
        for api, kind in _NATIVE_CALL.items():
            if places and any(block_kind(content[n]) == kind for n in call_blocks):
                metadata[api] = {**p.native(metadata.get(api)), **places}
    elif last and message.tool_calls:
        beside = _with_calls(message, role)
        return PromptMessage(
            altered(beside.message, role=role, content=parts), message, tuple(blocks), unnamed=beside.unnamed
        )
    if role not in ("user", "assistant", "system", "developer") and calls:
        role = "assistant"
    fields = {"role": role, "content": parts or None, "metadata": metadata, "tool_calls": calls or None}
    return PromptMessage(
        altered(message, tool_call_id=None, **fields), message, tuple(blocks), tuple(call_blocks), frozenset(unnamed)
    )


_NATIVE_CALL = {"anthropic": "tool_use", "bedrock": "toolUse", "gemini": "functionCall"}
