"""The messages of a session in memory, and what its store knows of them.

A history may be loaded in part: the newest messages, with the number of older ones. It may have been changed since it
was stored: messages appended, or rewritten from some point on. A save needs to know that; nothing here is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple, cast
from weakref import ReferenceType, ref

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.model.heads import Run, StoredBranch, StoredHead
from pyai_sessions.model.points import Branch
from pyai_sessions.prompts.formats.parts import instructs
from pyai_sessions.values.checks import Clock, counted, utc_now
from pyai_sessions.values.json import Default, make_unchangeable
from pyai_sessions.values.messages import Message, same_words, take_drawn, taken
from pyai_sessions.values.tokens import new_token


class Attempt(NamedTuple):
    """A save of which it is not known whether it was applied: the storage failed, or its reply was lost.

    Attributes:
        draft: What it was to store: a `documents.writing.Draft`.
        rewrites: `History.rewrites` at that time.
        merged: The session that the draft is of, when that was merged with what others had stored; else None.
        base: Then: what the copy in hand would have been as a stored session.

    """

    draft: Any
    rewrites: int
    merged: Any = None
    base: StoredHead | None = None


class Question(NamedTuple):
    """The message that begins the turn of the first loaded message, where it is not loaded with the others.

    *place* is how many messages precede it, *page* the number of its sealed page.
    """

    place: int
    page: int
    message: Message


class Line(NamedTuple):
    """A branch with what it holds: in pages, or, not stored yet, in memory.

    Attributes:
        stored: What a head says of it.
        left: Until it is stored: the history as it was when it was left.
        values: Then: the state, the checkpoints and the summary.

    """

    stored: StoredBranch
    left: History | None = None
    values: Mapping[str, Any] = {}

    @property
    def branch_id(self) -> str:
        """The branch's id."""
        return self.stored.branch_id

    @property
    def branch(self) -> Branch:
        """What users see of it."""
        of = self.stored
        return Branch(of.message_count, of.last_message_id, of.created_at, of.branch_id)


_append, _put = list[Message].append, list[Message].__setitem__  # which `Messages` does not let its users call


class _Referable:
    __slots__ = ("__weakref__",)


@dataclass(slots=True)
class History(_Referable):
    """A session's messages in memory, with the bookkeeping of its store.

    Attributes:
        log: The loaded messages, oldest first.
        unloaded: How many stored messages precede them.
        hidden: How many of the loaded are older than what was asked for: a page is loaded whole.
        origin: The head that was stored when the session was loaded or last saved: the base of a merge. Of one whose
            messages are long, without these.
        page_sizes: How many messages each loaded sealed page holds, oldest first. Drafts share it: never change it.
        rewritten_from: The first stored message that was changed or removed since.
        edits: The stored messages that were changed or removed one by one since, by their ids: as they were stored.
        reordered: Whether the stored messages were changed in other ways: a merge cannot do that anew.
        incarnation: The token of the session's creation, once a save was tried.
        rewrites: How often it was rewritten.
        attempts: The latest saves of which it is not known whether they were applied.
        clock: Tells the time of changes.
        branches: What rewinds have left, oldest first.
        leading: How many of the first messages instruct the model, as far as they are not among the loaded.
        question: The place and the first words of the first question, as far as it is not among the loaded.
        instructions: These messages, where they were asked for.
        asked: Begins the turn of the first loaded message, where that is long: it was loaded from its own page.
        line: The sealed pages to go on from, where those are not the origin's: a branch, or a parent's.
        revision: Of a session that is not loaded: what JSON says of it, or what a store of four methods calls it.
        home: Names the store object that the session was loaded from, or saved by.
        active_at: Of a session that is not stored yet: when a message was last added or changed, where it is not
            ``updated_at``.
        added_to: Keys of the state to which the session added, a number or items: a merge adds both sides' up.
        unsought: Ids that the caller chose for new messages, and that the messages which are not loaded may have.
        default: Converts what is given to the session and JSON cannot hold.
        messages: What users see of the log: always the same list, which follows it.

    """

    log: list[Message] = field(default_factory=list[Message])
    unloaded: int = 0
    hidden: int = 0
    origin: StoredHead | None = None
    page_sizes: list[int] = field(default_factory=list[int])
    rewritten_from: int | None = None
    edits: dict[str, Message] = field(default_factory=dict[str, Message])
    reordered: bool = False
    incarnation: str | None = None
    rewrites: int = 0
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    clock: Clock = utc_now
    branches: list[Line] = field(default_factory=list[Line])
    leading: int = 0
    instructions: list[Message] = field(default_factory=list[Message])
    question: tuple[int, str] | None = None
    asked: Question | None = None
    line: tuple[Run, ...] | None = None
    revision: str | None = None
    home: str | None = None
    active_at: datetime | None = None
    added_to: set[str] = field(default_factory=set[str])
    unsought: set[str] = field(default_factory=set[str])
    default: Default | None = None
    messages: Messages = field(init=False, repr=False, compare=False)
    _ids: set[str] | None = None

    def __post_init__(self) -> None:
        """Make the list that users see of the log: always the same, which follows it."""
        self.messages = _shown(self)
        self._show()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle of any protocol holds: all but the list that users see, which is made anew."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.__post_init__()

    @property
    def count(self) -> int:
        """How many messages the conversation has, those that are not loaded included."""
        return self.unloaded + len(self.log)

    @property
    def sealed(self) -> int:
        """How many messages lie in stored pages."""
        return self.origin.sealed if self.origin else 0

    @property
    def unchanged(self) -> int:
        """How many of the first messages are stored as they are."""
        stored = self.origin.head.message_count if self.origin else 0
        return stored if self.rewritten_from is None else min(stored, self.rewritten_from)

    @property
    def is_active(self) -> bool:
        """Whether messages were added, changed or removed since the session was stored."""
        before = self.origin
        return before is None or self.rewritten_from is not None or self.count != before.head.message_count

    @property
    def loaded_instructions(self) -> list[Message]:
        """The messages at the beginning of the log that instruct the model."""
        return list(takewhile(lambda each: instructs(each.role), self.log))

    @property
    def instruction_count(self) -> int:
        """How many messages at the beginning of the conversation instruct the model."""
        return self.leading if self.unloaded else len(self.loaded_instructions)

    def find(self, message_id: str) -> int | None:
        """Return the index of a message in the log; None if it is not loaded."""
        return next((n for n, each in enumerate(self.log) if each.message_id == message_id), None)

    def append(self, message: Message) -> Message:
        """Add a message at the end and return it; where it is in the log already, return that one."""
        known = self.admit(message)
        if known is None:
            self.active_at = None
            self.log.append(message)
            if len(self.messages) == len(self.log) - self.hidden - 1:
                _append(self.messages, message)
            else:  # an exception from outside came in between once
                self._show()
        return known or message

    def grow(self, messages: Iterable[Message]) -> None:
        """Add messages at the end whose ids are known to be free."""
        self.log.extend(messages)
        self._show()

    def hide(self, count: int) -> None:
        """Let so many of the loaded messages be hidden."""
        self.hidden = count
        self._show()

    def _show(self) -> None:
        _put(self.messages, slice(None), self.log[self.hidden :] if self.hidden else self.log)

    def copied(self) -> History:
        """Return a copy that shares nothing which changes, and whose session can be saved beside this one's."""
        if self.incarnation is None:
            self.incarnation = new_token(6)  # else the copies would be two sessions of one id
        return replace(
            self,
            log=list(self.log),
            attempts=list(self.attempts),
            branches=list(self.branches),
            instructions=list(self.instructions),
            unsought=set(self.unsought),
            edits=dict(self.edits),
            added_to=set(self.added_to),
            _ids=None,
        )

    def extend(self, messages: Sequence[Message]) -> list[Message]:
        """Do so with several messages: all, or none where the id of one is taken."""
        before, unsought = len(self.log), set(self.unsought)
        if len({each.message_id for each in messages}) < len(messages):
            raise InvalidValueError("message_id", "is the same of two of these messages; each needs its own")
        try:
            return [self.append(each) for each in messages]
        except InvalidValueError:
            del self.log[before:]
            self._show()
            self._ids, self.unsought = None, unsought
            raise

    def admit(self, message: Message) -> Message | None:
        """Return the message of the log that has the same id and the same words, if there is one.

        Otherwise the id counts as taken from now on. An id that was drawn for this message is not looked for.

        Raises:
            InvalidValueError: A message of the log has the same id and other words.

        """
        drawn = take_drawn(message)
        if self._ids is None and not drawn:
            self._ids = {each.message_id for each in self.log}
        if self._ids is None:
            return None
        if not drawn and message.message_id in self._ids:
            known = next(each for each in self.log if each.message_id == message.message_id)
            if not same_words(known, message):
                raise taken(message.message_id)
            return known
        self._ids.add(message.message_id)
        if self.unloaded and not drawn:
            self.unsought.add(message.message_id)
        return None

    def found(self, stored: Iterable[Message]) -> None:
        """Take out of the log what turned out to be stored among the messages that are not loaded.

        Raises:
            InvalidValueError: One of these has other words. The log is as it was.

        """
        known = {each.message_id: each for each in stored if each.message_id in self.unsought}
        for each in self.log:
            if each.message_id in known and not same_words(known[each.message_id], each):
                raise taken(each.message_id)
        if known:
            self.log[:] = [each for each in self.log if each.message_id not in known]
            self.hide(min(self.hidden, len(self.log)))
            self._ids = None
        self.unsought.difference_update(known)

    def change(self, index: int, message: Message | None) -> None:
        """Put a message in the place of one, or remove that."""
        old = self.log[index]
        if index < self.stored:
            self.edits.setdefault(old.message_id, old)
        self._rewrite(index, [*([] if message is None else [message]), *self.log[index + 1 :]])

    def rewrite(self, index: int, rest: list[Message]) -> None:
        """Let the log go on with *rest* from *index*."""
        self.reordered = self.reordered or index < self.stored
        self._rewrite(index, rest)

    @property
    def stored(self) -> int:
        """How many of the first messages of the log are stored, some of them perhaps with other words."""
        if self.origin is None:
            return 0
        ids = {each.message_id for each in self.log} if self.edits else set[str]()
        return self.origin.head.message_count - self.unloaded - sum(each not in ids for each in self.edits)

    def _rewrite(self, index: int, rest: list[Message]) -> None:
        at = self.unloaded + index
        if index < self.stored:
            self.rewritten_from = at if self.rewritten_from is None else min(at, self.rewritten_from)
        self.rewrites += 1
        self.active_at = None
        self.log[index:] = rest
        self.hide(min(self.hidden, len(self.log)))
        self._ids = None

    def is_saved(self) -> None:
        """Note that all changes of stored messages are stored."""
        self.rewritten_from, self.reordered = None, False
        self.edits.clear()

    def prepend(self, older: list[Message], page_sizes: list[int]) -> None:
        """Add the messages that were not loaded, with the sizes of the pages that they fill."""
        self.found(older)
        self.log[:0] = older
        self.page_sizes = [*page_sizes, *self.page_sizes]
        self.unloaded = 0
        self.hide(0)
        self.instructions = []
        self.asked = None
        self.unsought.clear()
        self._ids = None


class Messages(list[Message]):
    """A session's messages: a list that the session's methods change, and nothing else. A copy is a plain list."""

    __slots__ = ("_history",)
    __hash__ = None
    _history: ReferenceType[History]  # a history holds its messages: a circle would be left to the garbage collector

    def __new__(cls, items: Iterable[Any] = ()) -> Any:  # noqa: D102 (`asdict` calls it)
        return list(items)

    def __eq__(self, other: object) -> bool:
        return list[Any].__eq__(self, list(cast("Iterable[Any]", other)) if isinstance(other, tuple) else other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'message')}>"

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        """Copy as a plain list."""
        return list, (list(self),)

    @property
    def history(self) -> History | None:
        """The history whose messages these are, while its session is in use."""
        return self._history()


def _shown(history: History) -> Messages:
    made: Messages = list.__new__(Messages)
    made._history = ref(history)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return made


make_unchangeable(Messages, "a history changes by session.add_message, pop, replace_message or remove_message")
