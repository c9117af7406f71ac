"""Heads: the main document of each stored session, as structs, and what can be computed from one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from pyai_sessions.values.checks import Clock
from pyai_sessions.values.messages import Message

FORMAT = 1

Count = Annotated[int, msgspec.Meta(ge=0)]
"""A number of things, as documents may contain it."""


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


class SessionStatus(str, Enum):
    """Whether a session is active or archived. Equal to its text: ``session.status == "active"``."""

    ACTIVE = "active"
    ARCHIVED = "archived"

    def __str__(self) -> str:
        return self.value


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """Consecutive sealed pages: *pages* of them, from number *start* on, under one *owner* and *generation*.

    They hold *messages*. If that is 0, their messages are counted with those of the run that follows.
    """

    owner: Annotated[str, msgspec.Meta(min_length=1)]
    generation: str
    pages: Count
    messages: Count
    start: Count = 0

    @property
    def end(self) -> int:
        """The number of the page after the last one."""
        return self.start + self.pages


def with_page_of(run: Run, messages: int) -> Run:
    """Return a run with one more page, which holds *messages*."""
    return msgspec.structs.replace(run, pages=run.pages + 1, messages=run.messages + messages)


def first_pages(runs: Iterable[Run], pages: int, messages: int) -> list[Run]:
    """Return the runs of the first *pages* pages, which hold *messages* in all."""
    kept: list[Run] = []
    for run in runs:
        count = min(run.pages, pages)
        if count:
            kept.append(msgspec.structs.replace(run, pages=count))
        pages -= count
    if kept:
        rest = messages - sum([run.messages for run in kept[:-1]])
        kept[-1] = msgspec.structs.replace(kept[-1], messages=rest)
    return kept


class StoredBranch(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The entry of a branch in a head: its first messages are in the pages *sealed*, the rest in its own document."""

    branch_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
    message_count: Count
    last_message_id: str | None
    created_at: Annotated[datetime, msgspec.Meta(tz=True)]
    sealed: tuple[Run, ...] = ()


class Gap(msgspec.Struct, array_like=True, frozen=True):
    """Consecutive sealed pages in which no turn begins: from number *page* on, up to *end*.

    *message* is the number of their first message.
    """

    page: Count
    message: Count
    end: Count


MAX_GAPS = 8


def with_page(gaps: tuple[Gap, ...], page: int, message: int, *, has_turn: bool) -> tuple[Gap, ...]:
    """Return the newest 8 gaps after a page was sealed whose first message is number *message*."""
    if has_turn:
        return gaps
    if gaps and gaps[-1].end == page:
        return (*gaps[:-1], msgspec.structs.replace(gaps[-1], end=page + 1))
    return (*gaps, Gap(page, message, page + 1))[-MAX_GAPS:]


def kept_gaps(head: Head, pages: int) -> tuple[Gap, ...]:
    """Return the gaps of a head in its first *pages* sealed pages."""
    if not head.gaps:
        return ()
    return tuple([msgspec.structs.replace(each, end=min(each.end, pages)) for each in head.gaps if each.page < pages])


class Head(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A session's head document. Fields with a default may be absent in a document that was written by hand.

    *active_at* is when a message was last added or changed, if that is not *updated_at*. *leading* is how many of
    the first messages instruct the model. *question* is the place of the first question, and its first words. *gaps*
    are the places of long turns: a load that begins in one finds its question without reading all pages before. Fields
    that are UNSET are not written.
    """

    format: int
    revision: str = ""
    session_id: str = ""
    user_id: str | None = None
    status: SessionStatus = SessionStatus.ACTIVE
    created_at: Annotated[datetime, msgspec.Meta(tz=True)] = _EPOCH
    updated_at: Annotated[datetime, msgspec.Meta(tz=True)] = _EPOCH
    active_at: Annotated[datetime, msgspec.Meta(tz=True)] | UnsetType = UNSET
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | UnsetType = UNSET
    title: str | UnsetType | None = UNSET
    message_count: Annotated[int, msgspec.Meta(ge=-1)] = -1
    incarnation: str = ""
    edition: str = ""
    sealed: tuple[Run, ...] = ()
    dropped: tuple[str, ...] = ()
    branches: tuple[StoredBranch, ...] | UnsetType = UNSET
    leading: Count | UnsetType = UNSET
    question: tuple[Count, str] | UnsetType = UNSET
    gaps: tuple[Gap, ...] | UnsetType = UNSET
    summary: msgspec.Raw | UnsetType = UNSET
    forked: bool | UnsetType = UNSET
    parent: dict[str, Any] | UnsetType | None = UNSET
    metadata: msgspec.Raw = msgspec.Raw(b"{}")
    state: msgspec.Raw = msgspec.Raw(b"{}")
    checkpoints: msgspec.Raw = msgspec.Raw(b"[]")
    messages: msgspec.Raw = msgspec.Raw(b"[]")


def named_runs(head: Head) -> tuple[Run, ...]:
    """Return all pages that a head names, each once: they must not be removed while it is stored.

    Pages of branches and their documents are included. If there are branches, the runs count 0 messages.
    """
    if not head.branches:
        return head.sealed
    return united([*head.sealed, *(run for each in head.branches for run in branch_runs(head.session_id, each))])


def united(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Return the pages of *runs*, each once. The numbers of messages are 0."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda each: each.start):
        if run.pages:
            of = found.setdefault((run.owner, run.generation), [])
            if of and run.start <= of[-1].end:
                of[-1] = msgspec.structs.replace(of[-1], pages=max(of[-1].end, run.end) - of[-1].start)
            else:
                of.append(msgspec.structs.replace(run, messages=0))
    return tuple([run for of in found.values() for run in of])


def branch_runs(session_id: str, branch: StoredBranch) -> list[Run]:
    """Return the pages of a branch, including its own document, which is not a page of messages."""
    return [*branch.sealed, Run(session_id, branch.branch_id, 1, 0)]


def owners_of(runs: Iterable[Run], session_id: str) -> tuple[str, ...]:
    """Return the other sessions that own pages of *runs*."""
    others = [run.owner for run in runs if run.owner != session_id]
    return tuple(dict.fromkeys(others)) if others else ()


def page_numbers(runs: Iterable[Run]) -> dict[tuple[str, str], list[range]]:
    """Return, of each owner and generation, the numbers of the pages that *runs* name."""
    found: dict[tuple[str, str], list[range]] = {}
    for run in runs:
        if run.pages:
            found.setdefault((run.owner, run.generation), []).append(range(run.start, run.end))
    return found


def extents(runs: Iterable[Run]) -> dict[str, dict[str, int]]:
    """Return, of each owner and generation, the number after that of the last page that *runs* name."""
    found: dict[str, dict[str, int]] = {}
    for run in runs:
        if run.pages:
            of = found.setdefault(run.owner, {})
            of[run.generation] = max(run.end, of.get(run.generation, 0))
    return found


class Entry(msgspec.Struct, frozen=True):
    """The values of a session that the indexes need.

    *activity* is its ``active_at`` in microseconds since 1970, *expires* its ``expires_at``, or None.
    """

    session_id: str
    user_id: str | None
    status: SessionStatus
    activity: int
    expires: int | None = None

    def is_beside(self, other: Entry) -> bool:
        """Return whether both are in the same lists: those of their user and status."""
        return self.user_id == other.user_id and self.status == other.status


class StoredHead(msgspec.Struct, frozen=True):
    """A head as it was read from a storage or written to one. It is the base of a merge.

    Attributes:
        head: The fields.
        stamp: The beginning of the document, which the next commit compares.
        unknown: Fields of later releases.
        last_message: The last message, if the head belongs to a session in memory.

    """

    head: Head
    stamp: str
    unknown: Mapping[str, Any]
    last_message: Message | None = None

    @property
    def entry(self) -> Entry:
        """The values of this session that the indexes need."""
        head = self.head
        expires = microseconds(head.expires_at) if head.expires_at else None
        return Entry(
            head.session_id, head.user_id, head.status, microseconds(head.active_at or head.updated_at), expires
        )

    def rewritten(self, edition: str) -> StoredHead:
        """Return a copy with another edition: its messages count as rewritten, not as appended to."""
        return msgspec.structs.replace(self, head=msgspec.structs.replace(self.head, edition=edition))

    @property
    def expires_at(self) -> datetime | None:
        """When the session expires."""
        return self.head.expires_at or None

    @property
    def active_at(self) -> datetime:
        """When a message was last added or changed."""
        return self.head.active_at or self.head.updated_at

    @property
    def title(self) -> str | None:
        """The title that lists show: the session's own, or else the first words of its first question."""
        head = self.head
        return head.title or (head.question[1] if head.question else None)

    @property
    def parent_id(self) -> str | None:
        """The id of the session that this one was forked from, if it is a fork."""
        found = (self.head.parent or {}).get("session_id")
        return found if isinstance(found, str) else None

    def is_over(self, clock: Clock) -> bool:
        """Return whether the session has expired. No call returns it then, but it may not have been removed yet."""
        return self.head.expires_at is not UNSET and self.head.expires_at <= clock()

    @property
    def is_forked(self) -> bool:
        """Whether other sessions may share its pages."""
        return self.head.forked is True

    @property
    def sealed(self) -> int:
        """How many messages are in pages."""
        return sum([run.messages for run in self.head.sealed])

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return sum([run.pages for run in self.head.sealed])


def microseconds(time: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """Return the time that is *count* microseconds after 1970."""
    return _EPOCH + count * _MICROSECOND


def stamp_of_head(head: Head) -> str:
    """Return how the text of a head that we write begins."""
    return f'{{"format":{head.format},"revision":"{head.revision}"'
