"""Repeated message ids in sessions as JSON, as other tools may write them: each message gets an id of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyai_sessions.values.json import is_array, is_mapping
from pyai_sessions.values.messages import Message

_KEPT = 200
"""Characters of an id that a new id begins with, so that it is not too long in UTF-8."""


def repeats(messages: Sequence[Message]) -> bool:
    """Return whether two of the messages have one id."""
    return len({each.message_id for each in messages}) < len(messages)


def unrepeated(given: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return a session as JSON with new ids for messages that repeat an earlier one's id, and how many these are.

    The first message keeps its id, the next gets ``<id>~2``, and so on, always the same. Checkpoints, branches and the
    summary are changed to name the new ids. Anything that is not a session as JSON is returned unchanged.
    """
    found = dict(given)
    log, renamed = _with_own_ids(found.get("messages"), [])
    if renamed:
        _rename_points(found, found["messages"], log)
        found["messages"] = log
    lines = found.get("left")
    if not is_array(lines) or not all(map(is_mapping, lines)):
        return found, renamed
    left: list[dict[str, Any]] = []
    for line in map(dict[str, Any], lines):
        after, own = line.get("after"), line.get("messages")
        if type(after) is int and is_array(own):
            shared = log[: max(0, after)]
            messages, count = _with_own_ids(own, shared)
            before = [*given["messages"][: len(shared)], *own] if shared else [*own]
            if count or shared != before[: len(shared)]:
                _rename_points(line, before, [*shared, *messages])
                line["messages"] = messages
                renamed += count
        left.append(line)
    return {**found, "left": left}, renamed


def _with_own_ids(messages: object, shared: Iterable[object]) -> tuple[list[Any], int]:
    """Return messages as JSON with ids that neither they nor the *shared* ones repeat, and how many ids are new."""
    made: list[Any] = [*messages] if is_array(messages) else []
    ids = [_id_of(each) for each in made]
    taken = {_id_of(each) for each in shared}
    known, count = taken.union(ids), 0
    if len(known) == len(taken) + len(ids):
        return made, 0
    for n, each in enumerate(ids):
        if each is not None and each in taken:
            number = 2
            while (name := f"{each[:_KEPT]}~{number}") in known:
                number += 1
            made[n] = {**made[n], "message_id": name}
            known.add(name)
            count += 1
        taken.add(each)
    return made, count


def _rename_points(holder: dict[str, Any], before: Sequence[Any], now: Sequence[Any]) -> None:
    """Change the checkpoints and the summary of a session or a branch, and the branch itself, to name the new ids."""

    def renamed(point: Any) -> Any:
        count = point.get("message_count") if is_mapping(point) else None
        if type(count) is not int or not 0 < count <= len(now) or point.get("last_message_id") is None:
            return point
        same = point["last_message_id"] == _id_of(before[count - 1])
        return {**point, "last_message_id": _id_of(now[count - 1])} if same else point

    if is_array(holder.get("checkpoints")):
        holder["checkpoints"] = [renamed(each) for each in holder["checkpoints"]]
    if "summary" in holder:
        holder["summary"] = renamed(holder["summary"])
    holder.update(renamed(holder))


def _id_of(message: object) -> str | None:
    found = message.get("message_id") if is_mapping(message) else None
    return found if isinstance(found, str) else None
