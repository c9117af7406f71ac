"""Pairs of tool calls and their results, and orphans: calls or results without the other half.

APIs ask that a call is followed by its result, and that a result has its call. A conversation that was cut short,
interrupted or written by two programs can break that; `paired` mends it in what a model is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from pyai_sessions.prompts.formats.shapes import PromptMessage, altered, interrupted_result, prompt_messages
from pyai_sessions.values.json import is_mapping
from pyai_sessions.values.messages import Message

Group = list[PromptMessage]
"""Messages that a window takes or leaves as a whole: one message, or an assistant's calls with their results."""


class Orphan(NamedTuple):
    """A tool's call without a result (*kind* ``"call"``), or a result without its call (``"result"``).

    Attributes:
        kind: Which of the two.
        message_id: The message that holds it.
        call_id: The call's id, where it has one.

    """

    kind: Literal["call", "result"]
    message_id: str
    call_id: str | None


def paired(messages: Iterable[PromptMessage], *, tell: bool = False) -> tuple[list[Group], list[Orphan]]:
    """Return the groups of messages, and the orphans that were left out of them. Takes one pass.

    A result that comes later than right after its call, as another writer's message got in between, moves up to it. A
    call that has no result is taken out of its message, and a message that has nothing else goes; with *tell* it stays,
    and a result follows which says that it was interrupted.
    """
    groups: list[Group] = []
    calls = _Waiting()
    orphans: list[Orphan] = []
    for each in messages:
        message = each.message
        if message.role == "tool":
            found = calls.answer(message)
            if found is None:
                orphans.append(Orphan("result", message.message_id, message.tool_call_id))
            else:
                call_id, n = found
                answer = (
                    each
                    if call_id == message.tool_call_id
                    else replace(each, message=altered(message, tool_call_id=call_id))
                )
                groups[n].append(answer)
            continue
        if message.tool_calls and message.role == "assistant":
            calls.add(each, len(groups))
        elif message.role != "assistant":
            calls.end_turn()
        groups.append([each])
    whole: list[Group] = []
    for group in groups:
        if group[0].message.tool_calls:
            whole += _answered(group, orphans, tell=tell)
        else:
            whole.append(group)
    return whole, orphans


class _Waiting:
    """The calls that still wait for a result, by their ids: each with its turn, its group and its function's name."""

    def __init__(self) -> None:
        self._calls: dict[str, tuple[int, int, str]] = {}
        self._turn = 0

    def add(self, caller: PromptMessage, group: int) -> None:
        """Add the calls of a message."""
        for each in caller.message.tool_calls or ():
            found = call_id(each)
            if found:
                self._calls.pop(found, None)
                self._calls[found] = self._turn, group, function_name(each)

    def end_turn(self) -> None:
        """Let the calls that follow be those of a new turn."""
        self._turn += 1

    def answer(self, result: Message) -> tuple[str, int] | None:
        """Return the id and the group of the call that *result* answers, or None if no such call waits.

        A result that names no call answers the first one of its function in the latest turn that has such a call.
        """
        self.end_turn()
        found = result.tool_call_id
        if found is None:
            named = [key for key, (_, _, function) in self._calls.items() if result.name in (None, function)]
            found = max(named, key=lambda key: self._calls[key][0], default="")
        call = self._calls.pop(found, None)
        return None if call is None else (found, call[1])


def _answered(group: Group, orphans: list[Orphan], *, tell: bool) -> list[Group]:
    """Return a group in which each call has a result: calls without one are left out, or get one that says so."""
    caller, *results = group
    left = {each.message.tool_call_id for each in results}
    known: set[str | None] = {None}
    kept: list[int] = []
    for n, call in enumerate(caller.message.tool_calls or ()):
        found = call_id(call)
        if found in left:
            left.discard(found)  # an id that is given twice was answered once
            kept.append(n)
        else:
            orphans.append(Orphan("call", caller.message.message_id, None if found in caller.unnamed else found))
            if tell and found not in known and caller.message.role == "assistant":
                kept.append(n)
                results.append(interrupted_result(caller, n))
        known.add(found)
    shown = caller.with_calls(kept)
    return [] if shown is None else [[shown, *results]]


def waiting(messages: Sequence[Message]) -> dict[str, str]:
    """Return the last calls that wait for a result: the name of the function by the id of the call."""
    answered: set[str | None] = set()
    for message in reversed(messages):
        for each in reversed(prompt_messages(message)):
            if each.message.tool_calls:
                calls = {call_id(call): call for call in each.message.tool_calls}
                return {key: function_name(call) for key, call in calls.items() if key and key not in answered}
            answered.add(each.message.tool_call_id)
    return {}


def function_name(call: Any) -> str:
    """Return the name of the function that a tool call names, or an empty text."""
    function = call.get("function") or call.get("custom")
    name = function.get("name") if is_mapping(function) else None
    return name if isinstance(name, str) else ""


def call_id(call: object) -> str | None:
    """Return the id of a tool call, or None if it has no id, so that no result can name it."""
    found = call.get("id") if is_mapping(call) else None
    return found if isinstance(found, str) and found else None
