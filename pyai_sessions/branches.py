"""Branches that rewinds left: what two lines of a conversation share, and a branch as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from pyai_sessions.checks import check_id
from pyai_sessions.heads import StoredBranch
from pyai_sessions.history import History, Line
from pyai_sessions.messages import Message
from pyai_sessions.points import Branch, Checkpoint, Summary
from pyai_sessions.values import plain_object

MAX_BRANCHES = 32
"""A session remembers so many of the branches that rewinds left, the newest: its head names them all."""


def check_branch(value: object) -> str:
    """Return the id of a branch that is given by itself or by its id."""
    return value.branch_id if isinstance(value, Branch) else check_id(value, "branch")


def stored_of(branch: Branch) -> StoredBranch:
    """Return what a head says of a branch before it is stored."""
    return StoredBranch(branch.branch_id, branch.message_count, branch.last_message_id, branch.created_at)


def common(one: Sequence[Message], other: Sequence[Message]) -> int:
    """Return how many messages two lists begin with alike."""
    for n, (a, b) in enumerate(zip(one, other, strict=False)):
        if a is not b and a != b:
            return n
    return min(len(one), len(other))


def line_to_dict(line: Line, log: list[Message]) -> dict[str, Any]:
    """Return a branch as JSON values; the messages that the conversation's *log* begins with, too, are not repeated."""
    left = line.left.log if line.left else []
    shared = common(left, log)
    summary: Summary | None = line.values["summary"]
    return {
        **line.branch.to_dict(),
        "state": deepcopy(line.values["state"]),
        "checkpoints": [each.to_dict() for each in line.values["checkpoints"]],
        "summary": None if summary is None else summary.to_dict(),
        "after": shared,
        "messages": [each.to_dict() for each in left[shared:]],
    }


def line_from_dict(given: Mapping[str, Any], log: list[Message]) -> Line:
    """Return the branch that `line_to_dict` made *given* of, beside the same *log*."""
    own = ("state", "checkpoints", "summary", "after", "messages")
    summary = given.get("summary")
    return Line(
        stored_of(Branch.from_dict({name: value for name, value in given.items() if name not in own})),
        left=History(log=[*log[: given["after"]], *(Message.from_dict(each) for each in given["messages"])]),
        values={
            "state": plain_object(given.get("state", {}), "state"),
            "checkpoints": [Checkpoint.from_dict(each) for each in given.get("checkpoints", ())],
            "summary": None if summary is None else Summary.from_dict(summary),
        },
    )
