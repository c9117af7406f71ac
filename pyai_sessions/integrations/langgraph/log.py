"""The log of a graph's checkpoints among the messages of a session, as `LangGraphSaver` writes and reads it.

A session of a graph has messages of three kinds: what is said; records, each of a checkpoint or of the writes of a
task; and messages that a later checkpoint left out. The latter two say nothing to a model: their own fields are empty.
The conversation of a checkpoint is what was said before its record and left out by none before it. So a commit stores
what is new alone, and nothing that is stored changes, unless a graph leaves messages out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pyai_sessions import Message, Session
from pyai_sessions.values.checks import utc_now
from pyai_sessions.values.json import is_mapping, plain
from pyai_sessions.values.messages import metadata_of

NAME = "langgraph"
"""The name under which records lie in the metadata of messages, and the index of the log in that of the session."""

_EARLY = 16
"""Messages before a checkpoint's record among which writes of its tasks may be: they are stored at the same time."""

_SAYING_NOTHING: Mapping[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": None,
    "tool_call_id": None,
    "name": None,
}


def record(**part: Any) -> Message:
    """Return a new message that holds *part* and says nothing to a model."""
    return Message("assistant", None, metadata={NAME: part}, timestamp=utc_now())


def part_of(holder: Message | Session) -> Mapping[str, Any]:
    """Return what the log stores in the metadata of a message, or of a session; an empty dict if nothing."""
    part = (metadata_of(holder) if isinstance(holder, Message) else holder.metadata).get(NAME)
    return part if is_mapping(part) else {}


def leave_out(session: Session, messages: Iterable[Message], left: Message) -> None:
    """Take messages out of the conversation of the checkpoint with the record *left*; earlier ones keep them."""
    for each in messages:
        fields = {key: plain(getattr(each, key), key) for key in (*_SAYING_NOTHING, "metadata")}
        part = {"left": left.message_id, "was": fields}
        session.replace_message(each, **_SAYING_NOTHING, metadata={NAME: part})


def remove(session: Session, places: Iterable[int], *, and_left: bool = False) -> None:
    """Remove checkpoints from a loaded session, and the writes after them.

    *and_left* also removes the messages that any checkpoint left out. Without it they stay, and so does an empty record
    for each checkpoint that they name.
    """
    messages = list(session.messages)
    parts = [part_of(each) for each in messages]
    gone = {(parts[n]["ns"], parts[n]["checkpoint"]) for n in places}
    named: set[str] = set() if and_left else {each["left"] for each in parts if "left" in each}
    for each, part in zip(messages, parts, strict=True):
        if "left" in part:
            if and_left:
                session.remove_message(each)
        elif (part.get("ns"), part.get("checkpoint", part.get("writes"))) in gone:
            if each.message_id in named:
                session.replace_message(each, metadata={NAME: {"removed": True}})
            else:
                session.remove_message(each)


class Log(NamedTuple):
    """A run of consecutive messages of a session.

    Attributes:
        messages: The messages.
        is_whole: Whether the session has no older message.
        is_newest: Whether the session has no newer message.

    """

    messages: Sequence[Message]
    is_whole: bool = True
    is_newest: bool = True

    def checkpoints(self) -> list[int]:
        """Return the places of all records of checkpoints."""
        return [n for n, each in enumerate(self.messages) if "checkpoint" in part_of(each)]

    def find(self, namespace: str, checkpoint_id: str | None) -> int | None:
        """Return the place of a checkpoint's record, by default that of the newest one; None if it is not there."""
        for n in range(len(self.messages) - 1, -1, -1):
            part = part_of(self.messages[n])
            if "checkpoint" in part and part["ns"] == namespace and checkpoint_id in (None, part["checkpoint"]):
                return n
        return None

    def reaches(self, namespace: str, checkpoint_id: str | None, since: Iterable[str] = ()) -> bool:
        """Return whether the log goes far enough back to hold a checkpoint and its writes, if they are stored.

        *since* are checkpoints that are older than any of the *namespace*.
        """
        places = [self.find(namespace, checkpoint_id), *(self.find("", each) for each in since)]
        return self.is_whole or any(n is not None and n >= _EARLY for n in places)

    def is_followed(self, n: int) -> bool:
        """Return whether the log holds the checkpoint that follows the one at place *n*, and the writes near it."""
        of = part_of(self.messages[n])
        later = (m for m in range(n, len(self.messages) - _EARLY) if part_of(self.messages[m]).get("ns") == of["ns"])
        return self.is_newest or any(part_of(self.messages[m]).get("parent") == of["checkpoint"] for m in later)

    def older(self, messages: Sequence[Message], *, is_whole: bool) -> Log:
        """Return a log that begins with older messages."""
        return self._replace(messages=[*messages, *self.messages], is_whole=is_whole)

    def newer(self, messages: Sequence[Message], *, is_newest: bool) -> Log:
        """Return a log that ends with newer messages."""
        return self._replace(messages=[*self.messages, *messages], is_newest=is_newest)

    def spoken(self, n: int | None = None) -> Iterator[Message]:
        """Yield the messages of the conversation at the checkpoint at place *n*; by default those of now.

        The newest checkpoint also gets the messages that were added after it.
        """
        if n is not None and not (self.is_newest and n == self.find("", None)):
            return _spoken(self.messages[: n + 1])
        return _spoken(self.messages)

    def writes(self, n: int, late: Iterable[Message] = ()) -> list[tuple[str, str, Any]]:
        """Return the writes after the checkpoint at a place: task, channel and value, in the order of LangGraph."""
        of, found = part_of(self.messages[n]), dict[tuple[str, int], tuple[tuple[str, str, int], str, Any]]()
        for each in (*self.messages, *late):
            part = part_of(each)
            if part.get("writes") == of["checkpoint"] and part["ns"] == of["ns"]:
                for place, channel, value in part["data"]:
                    key = (part["task"], place)
                    if place < 0 or key not in found:  # an error or an interrupt is the last one, all else the first
                        found[key] = ((part["path"], *key), channel, value)
        return [
            (order[1], channel, value) for order, channel, value in sorted(found.values(), key=lambda each: each[0])
        ]


def _spoken(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield what is said at the end of *messages*."""
    parts = list(map(part_of, messages))
    ids = {each.message_id for each in messages} if any("was" in each for each in parts) else set[str]()
    for each, part in zip(messages, parts, strict=True):
        if not part:
            yield each
        elif "was" in part and part["left"] not in ids:
            yield Message(**plain(part["was"], NAME), timestamp=each.timestamp, message_id=each.message_id)


def start_of(index: Mapping[str, Any], checkpoint_id: str) -> str | None:
    """Return the id of the last record in the *index* that is not newer than a checkpoint; None if there is none.

    The index has the ids of some checkpoints, which are in the order of time, each with the id of its record.
    """
    before = [each for each in index if each <= checkpoint_id]
    return index[max(before)] if before else None
