"""The messages of a session in memory, and what a save needs to know of them.

A history may be loaded in part: then it has the newest messages, and the number of older ones. It records which stored
messages were changed since the load.
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
from pyai_sessions.values.messages import Message, is_rated, same_words, take_drawn, taken
from pyai_sessions.values.tokens import new_token


class Attempt(NamedTuple):
    """A save that may or may not have been applied: the storage failed, or its reply was lost.

    Attributes:
        draft: The `documents.writing.Draft` that it tried to store.
        rewrites: `History.rewrites` at that time.
        edits: `History.changes()` at that time.
        merged: The merged session, if the save merged this copy with what other writers had stored; else None.
        base: If it was merged: the head that this copy alone would have had.

    """

    draft: Any
    rewrites: int
    edits: Mapping[str, tuple[Edit, Message | None]]
    merged: Any = None
    base: StoredHead | None = None


class Edit(NamedTuple):
    """A stored message that was changed or removed since: as it was stored, and how many preceded it then."""

    old: Message
    place: int


class Question(NamedTuple):
    """The message that begins the turn of the first loaded message, if a load read it from a page of its own.

    *place* is the number of messages before it, *page* the number of its sealed page.
    """

    place: int
    page: int
    message: Message


class Line(NamedTuple):
    """A branch: stored in pages, or still in memory.

    Attributes:
        stored: Its entry in the head.
        left: Its messages, until it is stored.
        values: Its state, checkpoints and summary, until it is stored.

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
        """The branch as users see it."""
        of = self.stored
        return Branch(of.message_count, of.last_message_id, of.created_at, of.branch_id)


_append, _put = list[Message].append, list[Message].__setitem__  # `Messages` raises when users call these


class _Referable:
    __slots__ = ("__weakref__",)


@dataclass(slots=True)
class History(_Referable):
    """A session's messages in memory, with what a save needs to know of them.

    Attributes:
        log: The loaded messages, oldest first.
        unloaded: How many stored messages precede the log.
        hidden: How many messages of the log are older than the caller asked for: pages are loaded whole.
        origin: The head as it was when the session was loaded or last saved: the base of a merge. It lacks the messages
            if they are long.
        page_sizes: How many messages each loaded page holds, oldest first. Drafts share this list: never change it.
        rewritten_from: The index from which on stored messages were rewritten since the load, not one by one.
        edits: Stored messages that were changed or removed one by one since the load, by id.
        reordered: Whether stored messages were changed in another way, which a merge cannot repeat.
        incarnation: The token of the session's creation, once a save was tried.
        rewrites: How often stored messages were changed or removed.
        attempts: The latest saves that may or may not have been applied.
        clock: Returns the time of changes.
        branches: The branches that rewinds left, oldest first.
        leading: How many messages before the log, at the beginning of the conversation, instruct the model.
        question: The index and the first words of the first question, if it precedes the log.
        instructions: The messages that *leading* counts, if the load read them.
        asked: The question of the turn in which the log begins, if the load read it from a page of its own.
        line: The sealed pages to continue from, if they are not the origin's: those of a branch, or of a parent.
        revision: The revision in the JSON that the session was made from, or that a store of four methods gave it.
        home: The name of the store object that loaded or saved the session.
        made_for: The id of its session, if that was constructed or made from JSON.
        active_at: When a message was last added or changed, if the session is not stored yet and that is not
            ``updated_at``.
        added_to: Keys of the state to which a number or items were added: a merge adds both sides' additions.
        unsought: Ids that the caller chose for new messages, and that messages before the log may already have.
        default: Converts values given to the session that JSON cannot hold.
        unknown: Fields of later releases, if the session was made from JSON.
        messages: The list that users see. It is always the same object, and follows the log.

    """

    log: list[Message] = field(default_factory=lambda: [])
    unloaded: int = 0
    hidden: int = 0
    origin: StoredHead | None = None
    page_sizes: list[int] = field(default_factory=lambda: [])
    rewritten_from: int | None = None
    edits: dict[str, Edit] = field(default_factory=lambda: {})
    reordered: bool = False
    incarnation: str | None = None
    rewrites: int = 0
    attempts: list[Attempt] = field(default_factory=lambda: [])
    clock: Clock = utc_now
    branches: list[Line] = field(default_factory=lambda: [])
    leading: int = 0
    instructions: list[Message] = field(default_factory=lambda: [])
    question: tuple[int, str] | None = None
    asked: Question | None = None
    line: tuple[Run, ...] | None = None
    revision: str | None = None
    home: str | None = None
    made_for: str | None = None
    active_at: datetime | None = None
    added_to: set[str] = field(default_factory=lambda: set())
    unsought: set[str] = field(default_factory=lambda: set())
    default: Default | None = None
    unknown: Mapping[str, Any] | None = None
    messages: Messages = field(init=False, repr=False, compare=False)
    _ids: set[str] | None = None

    def __post_init__(self) -> None:
        """Make the list of messages that users see."""
        self.messages = _shown(self)
        self._show()

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields that are pickled: all but the list that users see, which is made again."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.__post_init__()

    @property
    def count(self) -> int:
        """How many messages the conversation has, including those that are not loaded."""
        return self.unloaded + len(self.log)

    @property
    def sealed(self) -> int:
        """How many messages are in stored pages."""
        return self.origin.sealed if self.origin else 0

    @property
    def first_change(self) -> int | None:
        """The index of the first stored message that was changed or removed since the load; None if none was."""
        if not self.edits:
            return self.rewritten_from
        first = min([each.place for each in self.edits.values()])
        return first if self.rewritten_from is None else min(first, self.rewritten_from)

    @property
    def is_changed(self) -> bool:
        """Whether stored messages were changed or removed since the load."""
        return self.rewritten_from is not None or bool(self.edits)

    @property
    def is_active(self) -> bool:
        """Whether messages were added or removed since the session was stored, or changed in more than metadata."""
        before = self.origin
        if before is None or self.rewritten_from is not None or self.count != before.head.message_count:
            return True
        return bool(self.edits) and any(
            now is None or not is_rated(edit.old, now) for edit, now in self.changes().values()
        )

    def changes(self) -> dict[str, tuple[Edit, Message | None]]:
        """Return the stored messages that were changed one by one, each with what took its place (None: nothing)."""
        if not self.edits:
            return {}
        there = {each.message_id: each for each in self.log}
        return {key: (each, there.get(key)) for key, each in self.edits.items()}

    @property
    def gone(self) -> list[int]:
        """The places of the stored messages that were removed one by one, in order."""
        return sorted([edit.place for edit, now in self.changes().values() if now is None])

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
        """Add a message at the end and return it. If the log already contains it, return that one."""
        known = self.admit(message)
        if known is None:
            self.active_at = None
            if message.message_id in self.edits:  # it was removed, and comes back at the end
                self.rewritten_from, self.reordered = self.first_change, True
            self.log.append(message)
            if len(self.messages) == len(self.log) - self.hidden - 1:
                _append(self.messages, message)
            else:  # an earlier call was interrupted between the two appends
                self._show()
        return known or message

    def grow(self, messages: Iterable[Message]) -> None:
        """Add messages at the end whose ids are known to be free."""
        self.log.extend(messages)
        self._show()

    def hide(self, count: int) -> None:
        """Hide the first *count* loaded messages from users."""
        self.hidden = count
        self._show()

    def _show(self) -> None:
        _put(self.messages, slice(None), self.log[self.hidden :] if self.hidden else self.log)

    def copied(self) -> History:
        """Return a copy for another object of the same session: both can be changed and saved."""
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
        """Add several messages at the end and return them; add none if the id of one is taken."""
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
        """Return the message of the log that has the same id and content, or None.

        If there is none, the id counts as taken from now on. A random id that was drawn for this message is not looked
        for.

        Raises:
            InvalidValueError: A message of the log has the same id and other content.

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
        """Remove new messages from the log that turned out to be stored already, among those that are not loaded.

        Raises:
            InvalidValueError: A stored message has the id of a new one and other content. The log is unchanged.

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
        """Replace the message at an index, or remove it (None)."""
        old = self.log[index]
        if index < self.stored:
            self.edits.setdefault(old.message_id, Edit(old, self._place(index)))
        self._rewrite(index, [*([] if message is None else [message]), *self.log[index + 1 :]], alone=True)

    def rewrite(self, index: int, rest: list[Message]) -> None:
        """Replace all messages from *index* on by *rest*."""
        self.reordered = self.reordered or index < self.stored
        self._rewrite(index, rest)

    def clear(self) -> None:
        """Remove all messages, including those that are not loaded."""
        self.rewrite(0, [])
        self.unloaded, self.page_sizes, self.leading = 0, [], 0
        self.question = self.asked = None
        self.instructions = []
        self.unsought.clear()
        if self.origin is not None:
            self.rewritten_from, self.reordered = 0, True

    @property
    def stored(self) -> int:
        """How many messages at the beginning of the log are stored, perhaps with other content."""
        if self.origin is None:
            return 0
        return self.origin.head.message_count - self.unloaded - len(self.gone)

    def _place(self, index: int) -> int:
        """Return the index in the stored history of the message at an index of the log."""
        place = self.unloaded + index
        for each in self.gone:
            place += each <= place
        return place

    def _rewrite(self, index: int, rest: list[Message], *, alone: bool = False) -> None:
        if index < self.stored and not alone:
            at = self.unloaded + index
            self.rewritten_from = at if self.rewritten_from is None else min(at, self.rewritten_from)
        self.rewrites += 1
        self.active_at = None
        self.log[index:] = rest
        self.hide(min(self.hidden, len(self.log)))
        self._ids = None

    def is_saved(self) -> None:
        """Forget the changes of stored messages: they were saved."""
        self.rewritten_from, self.reordered = None, False
        self.edits.clear()

    def was_saved(self, then: Mapping[str, tuple[Edit, Message | None]]) -> None:
        """Forget the changes that an earlier save stored: what `changes` returned *then*. Later changes are kept."""
        gone = [edit.place for edit, now in then.values() if now is None]
        left: dict[str, Edit] = {}
        for key, (edit, now) in self.changes().items():
            before = then.get(key, (edit, edit.old))[1]
            if before is not None and before is not now:
                left[key] = Edit(before, edit.place - sum([each < edit.place for each in gone]))
        self.edits = left

    def prepend(self, older: list[Message], page_sizes: list[int]) -> None:
        """Add the messages that were not loaded, and the sizes of their pages."""
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
    """A session's messages: a list that only the session's methods can change. A copy is a plain list."""

    __slots__ = ("_history",)
    __hash__ = None
    _history: ReferenceType[History]  # weak, since the history refers to this list: a cycle would need the collector

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
        """The history of these messages, as long as its session exists."""
        return self._history()


def _shown(history: History) -> Messages:
    made: Messages = list.__new__(Messages)
    made._history = ref(history)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return made


make_unchangeable(Messages, "change it by session.add_message, pop, replace_message or remove_message")
