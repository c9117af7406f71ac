"""Branches of a conversation, which rewinds leave: finding one, comparing two, and a branch as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from pyai_sessions.errors import InvalidValueError, SessionStateError
from pyai_sessions.model.heads import StoredBranch
from pyai_sessions.model.history import History, Line
from pyai_sessions.model.points import Branch, Checkpoint, Summary
from pyai_sessions.values.checks import check_id, kind_of, shown
from pyai_sessions.values.codec import document_at, documents_at
from pyai_sessions.values.json import is_array, is_mapping, plain_object
from pyai_sessions.values.messages import Message

MAX_BRANCHES = 32
"""Branches that a session keeps, the newest: its head names them all."""


def check_branch(value: object) -> str:
    """Return the id of a branch, which is given by itself or by its id."""
    return value.branch_id if isinstance(value, Branch) else check_id(value, "branch")


def stored_of(branch: Branch) -> StoredBranch:
    """Return the entry of a head for a branch that is not stored yet."""
    return StoredBranch(branch.branch_id, branch.message_count, branch.last_message_id, branch.created_at)


def common(one: Sequence[Message], other: Sequence[Message]) -> int:
    """Return how many messages at the beginning of two lists are the same."""
    for n, (a, b) in enumerate(zip(one, other, strict=False)):
        if a is not b and a != b:
            return n
    return min(len(one), len(other))


def line_to_dict(line: Line, log: list[Message]) -> dict[str, Any]:
    """Return a branch as JSON values, without the messages that the conversation's *log* begins with too."""
    messages = line.left.log if line.left else []
    shared = common(messages, log)
    summary: Summary | None = line.values["summary"]
    return {
        **line.branch.to_dict(),
        "state": deepcopy(line.values["state"]),
        "checkpoints": [each.to_dict() for each in line.values["checkpoints"]],
        "summary": None if summary is None else summary.to_dict(),
        "after": shared,
        "messages": [each.to_dict() for each in messages[shared:]],
    }


def lines_from_dicts(given: object, log: list[Message]) -> list[Line]:
    """Return the branches of a session as JSON, where they are the value of ``left``; *log* are its other messages."""
    if not is_array(given):
        raise InvalidValueError("left", f"is {kind_of(given)}; it is a list")
    return [_line_from_dict(each, log, f"left[{n}]") for n, each in enumerate(given)]


def _line_from_dict(given: object, log: list[Message], place: str) -> Line:
    if not is_mapping(given):
        raise InvalidValueError(place, f"is {kind_of(given)}; it is a JSON object")
    own = ("state", "checkpoints", "summary", "after", "messages")
    branch = document_at(Branch, {name: value for name, value in given.items() if name not in own}, place)
    after: object = given.get("after")
    if type(after) is not int or not 0 <= after <= len(log):
        raise InvalidValueError(f"{place}.after", f"is {shown(after)}; it is a number of the session's messages")
    summary = given.get("summary")
    return Line(
        stored_of(branch),
        left=History(log=[*log[:after], *documents_at(Message, given.get("messages"), f"{place}.messages")]),
        values={
            "state": plain_object(given.get("state", {}), f"{place}.state"),
            "checkpoints": documents_at(Checkpoint, given.get("checkpoints", ()), f"{place}.checkpoints"),
            "summary": None if summary is None else document_at(Summary, summary, f"{place}.summary"),
        },
    )


def line_of(history: History, branch_id: str, session_id: str) -> Line:
    """Return a branch of a session by its id.

    Raises:
        SessionStateError: The session has no such branch.

    """
    for each in history.branches:
        if each.branch_id == branch_id:
            return each
    raise SessionStateError(session_id, f"has no branch {shown(branch_id)}; session.branches lists its branches")
