"""What users hold in their hands: Session, SessionStatus, SessionSummary; messages and points have their own rooms."""

# Not `from __future__ import annotations`: schemas are built from the fields' types, which must not be text.

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from itertools import chain, takewhile
from typing import Any, Literal, cast

from typing_extensions import Self

from pyai_sessions.errors import InvalidValueError, SessionStateError
from pyai_sessions.model.branches import MAX_BRANCHES, check_branch, common, line_to_dict, lines_from_dicts, stored_of
from pyai_sessions.model.fields import CHECKS, JSONField, check_attribute, check_checkpoints, check_status, default_of
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.model.history import History, Line, Messages
from pyai_sessions.model.points import Branch, Checkpoint, Parent, Summary
from pyai_sessions.model.unrepeated import unrepeated
from pyai_sessions.prompts.formats import Prompt, read_prompt, write_prompt
from pyai_sessions.prompts.formats.parts import instructs
from pyai_sessions.prompts.formats.shapes import Told, joined, told
from pyai_sessions.prompts.windows import (
    Budget,
    Choice,
    CountTokens,
    Orphan,
    as_added,
    counter,
    is_users,
    paired,
    turn_at,
    waiting,
    window,
)
from pyai_sessions.values.checks import check_id, check_limit, check_text, check_time, counted, kind_of, shown, utc_now
from pyai_sessions.values.codec import JSON_VALUE, TIME, Document, checked, list_of, maybe
from pyai_sessions.values.json import Default, converting, is_array, is_mapping, plain_object
from pyai_sessions.values.messages import Message, check_message, id_of
from pyai_sessions.values.tokens import new_id

_TICK = timedelta(microseconds=1)
_END = datetime.max.replace(tzinfo=timezone.utc)
_PARTIAL = "is loaded only in part; load all of it with manager.load_history(session)"


def new_session_id() -> str:
    """Return a new session id: ``sess_`` and 32 hex digits, 128 random bits."""
    return f"sess_{new_id()}"


def later(now: datetime, previous: datetime) -> datetime:
    """Return the time of a change that follows one at *previous*: never backwards, as lists are in that order."""
    if now > previous:
        return check_time(now, "clock()")
    return previous + _TICK if previous < _END else _END


@dataclass(frozen=True, repr=False)
class SessionSummary:
    """What a list of chats shows of a session. Reading one never reads its messages.

    Attributes:
        session_id: The session's id.
        user_id: Whose it is; None for an anonymous session.
        metadata: The session's metadata: put a title there.
        message_count: How many messages are stored.
        status: Active or archived.
        created_at: When the session was created, in UTC.
        updated_at: When it last changed, in UTC: the order of lists.
        expires_at: When it expires, in UTC; None if its store has no ``ttl``.

    """

    session_id: str
    user_id: str | None
    metadata: Mapping[str, Any]
    message_count: int
    status: SessionStatus
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"<SessionSummary {self.session_id!r} {self.status} {counted(self.message_count, 'message')}>"


@dataclass(repr=False)
class Session(Document):
    """A conversation: messages, metadata and state. One thread at a time may use one object.

    Attributes:
        session_id: Any text of 1 to 1,024 bytes; made at random if none is given.
        user_id: Whose it is, or None. It may change: the session then moves to the other user's list.
        metadata: JSON of your own that lists show (a title, a channel).
        state: JSON of your own that they do not.
        status: Active or archived.
        created_at: When it was created, in UTC.
        updated_at: When it last changed, in UTC.
        checkpoints: The points that `rewind` can return to, oldest first.
        parent: Of a fork: which session it was forked from, and where. None for others.
        messages: The history, read as a list.
        summary: What `compact` put in the place of the first messages, for models.

    >>> session = Session(session_id="sess_abc123", user_id="user123", metadata={"channel": "web"})
    >>> session.add_message("user", "Hello!").role
    'user'
    >>> session.set_state("last_topic", "greeting")
    >>> session.get_state("last_topic"), session.message_count
    ('greeting', 1)

    """

    session_id: str = field(default_factory=new_session_id, metadata=checked(check_id))
    user_id: str | None = field(default=None, metadata=checked(check_id))
    metadata: dict[str, Any] = field(default_factory=dict[str, Any], metadata=JSON_VALUE)
    state: dict[str, Any] = field(default_factory=dict[str, Any], metadata=JSON_VALUE)
    status: SessionStatus = field(default=SessionStatus.ACTIVE, metadata=checked(check_status))
    created_at: datetime = field(default_factory=utc_now, metadata=TIME)
    updated_at: datetime = field(default_factory=utc_now, metadata=TIME)
    checkpoints: list[Checkpoint] = field(default_factory=list[Checkpoint], metadata=list_of(Checkpoint))
    parent: Parent | None = field(default=None, metadata=maybe(Parent))
    messages: Sequence[Message] = field(default_factory=list[Message], metadata=list_of(Message))
    summary: Summary | None = field(default=None, metadata=maybe(Summary))

    _stored_fields = frozenset(
        {
            "format",
            "revision",
            "incarnation",
            "edition",
            "sealed",
            "dropped",
            "leading",
            "gaps",
            "branches",
            "left",
            "forked",
            "message_count",
        }
    )

    def __post_init__(self) -> None:
        """Take the given messages; the other fields were checked as they were assigned."""
        given: object = vars(self)["messages"]
        if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
            raise InvalidValueError("messages", f"is {kind_of(given)}; it is a list of Message")
        former = given.history if isinstance(given, Messages) else None
        if former is not None:  # by `dataclasses.replace`
            self._history = self._continued(former)
        else:
            messages = [check_message(each, f"messages[{n}]") for n, each in enumerate(cast("Iterable[object]", given))]
            self._history = History()
            self._history.extend(messages)
        vars(self)["messages"] = self._history.messages

    def _continued(self, history: History) -> History:
        """Return the history of a session that was made of another's messages: a new one, where its id is another."""
        if history.origin is not None and history.origin.head.session_id == self.session_id:
            self.keep_unknown(history.origin.stored.unknown)
            return history.copied()
        if history.unloaded or history.hidden:
            raise InvalidValueError("messages", f"{_PARTIAL}, or give a list of those that you want: list(messages)")
        return History(log=list(history.log), clock=history.clock, default=history.default)

    def __setattr__(self, name: str, value: Any) -> None:
        check = CHECKS.get(name)
        if check is not None:
            value = check(value, name)
        elif name == "messages":
            if "_history" in vars(self):
                raise InvalidValueError("messages", "was assigned to; a history changes by the session's own methods")
        elif name[0] != "_" and name not in _JSON_FIELDS:
            check_attribute(self, name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if name in _FIELDS:
            raise InvalidValueError(name, "cannot be deleted; assign another value")
        object.__delattr__(self, name)

    def __copy__(self) -> Self:
        """Return a session that goes on by itself: it shares nothing that changes, and can be saved beside this one."""
        made = type(self).__new__(type(self))
        vars(made).update({name: value for name, value in vars(self).items() if name[0] == "_"})
        values = {name: value for name, value in vars(self).items() if name[0] != "_" and name != "messages"}
        for name in _JSON_FIELDS:
            values[name] = plain_object(values[name], name)
        values["checkpoints"] = check_checkpoints(values["checkpoints"], "checkpoints")
        assign(made, values, history_of(self).copied())
        return made

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return what `copy.copy` does."""
        made = memo[id(self)] = self.__copy__()
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: all but the clock and the ``default`` of the manager, which are its process's."""
        copied = vars(self.__copy__())
        history = replace(copied["_history"], clock=utc_now, default=None)
        return {**{name: value for name, value in copied.items() if name != "messages"}, "_history": history}

    def __setstate__(self, state: dict[str, Any]) -> None:
        history = state["_history"]
        vars(self).update({name: value for name, value in state.items() if name != "_history"})
        assign(self, {}, history)

    def __repr__(self) -> str:
        """Without content: a repr ends up in logs."""
        held = counted(self.message_count, "message")
        return f"<Session {self.session_id!r} user_id={self.user_id!r} {self.status} {held}>"

    @property
    def message_count(self) -> int:
        """How many messages the conversation has, those that were not loaded included."""
        return self._history.count

    @property
    def revision(self) -> str | None:
        """The opaque revision that was loaded or last saved; None before the first save.

        A custom store that counts revisions sets it; it then raises `SessionConflictError` from ``save`` where it has
        stored another since.
        """
        return self._history.origin.head.revision if self._history.origin else self._history.revision

    @revision.setter
    def revision(self, revision: str | None) -> None:
        self._history.revision = revision

    @property
    def expires_at(self) -> datetime | None:
        """When the session expires, as it was loaded or last saved; None if its store has no ``ttl``."""
        return self._history.origin.stored.expires_at if self._history.origin else None

    @property
    def branches(self) -> list[Branch]:
        """What rewinds left, oldest first, of the newest 32: ``manager.switch`` goes on from one, `prune` forgets them.

        They stay with the store: `to_dict` has those alone that were left since the session was loaded, or that a
        custom store gave.
        """
        return [each.branch for each in self._history.branches]

    # The conversation --------------------------------------------------------------------------------------------

    def add_message(self, role: str, content: Any, **fields: Any) -> Message:
        """Append a message and return it; `SessionManager.save` stores it.

        *fields* are those of `Message`: metadata, timestamp, message_id, tool_calls, tool_call_id, name.

        A message with a *message_id* of your own is stored once: where the session has it already, with the same
        content, that one is returned. Of a session that is loaded in part, the save looks among the older messages.

        Raises:
            InvalidValueError: JSON cannot hold a field, or another message has the id. Nothing was appended.

        """
        now = self._history.clock()
        fields.setdefault("timestamp", now)
        message = self._message(role, content, fields)
        added = self._history.append(message)
        if added is message:
            vars(self)["updated_at"] = later(now, self.updated_at)
        return added

    def _message(self, role: str, content: Any, values: Mapping[str, Any]) -> Message:
        default = self._history.default
        if default is None:
            return Message(role, content, **values)
        with converting(default):
            return Message(role, content, **values)

    def add_messages(self, items: Iterable[object], *, format: str = "openai") -> list[Message]:  # noqa: A002
        """Append what a model's client was given or returned, and return it as messages: all of it, or nothing.

        *items* are messages as dicts, or as the objects of the client's package, in *format* ``"openai"`` (Chat
        Completions), ``"anthropic"`` (Messages) or ``"gemini"`` (contents). What `history` returned may be given back.
        Without *format*, items of other shapes are translated: OpenAI's Responses, LangChain's messages as dicts,
        blocks of Anthropic and Bedrock, Gemini's contents, Ollama's messages.

        A `Message`, and what `Message.to_dict` gives, is taken with all its fields. Beside any other item may stand a
        ``timestamp``, ``metadata`` and a ``message_id``. Keys that are not known are kept, and sent to no API.

        Raises:
            InvalidValueError: One of them is not of that format; the error says where, and what is accepted.

        """
        with converting(self._history.default):
            added = read_prompt(items, format, clock=self._history.clock, calls=waiting(self._history.log))
        added = self._history.extend(added)
        if added:
            self.touch()
        return added

    def history(
        self,
        *,
        last: int | None = None,
        max_tokens: int | None = None,
        count_tokens: CountTokens | None = None,
        roles: Iterable[str] | None = None,
        since: datetime | str | float | Message | None = None,
        format: str | None = None,  # noqa: A002 (the word that users would try)
        interrupted: Literal["tell", "leave out"] = "tell",
        speakers: Mapping[str, str] | None = None,
    ) -> Prompt:
        """Return the messages as a model's client takes them: dicts of role, content, and tool fields where present.

        Never what a model's API refuses: a tool's call and its results stay together or go together, results without
        a call go, and what was cut begins with a user's message. Of the oldest turn that does not fit whole, the
        question stays, with as many of its newest messages as fit. The messages that instruct the model (system,
        developer), which the conversation begins with, stay; after `compact` the summary follows them, and stands for
        what it sums up. It is never empty where there are messages.

        Roles have their usual names: ``human``, ``ai``, ``model``, ``bot`` and ``function``, too, say who speaks.
        A message of a role that no API knows begins a turn.

        Args:
            last: Of the newest so many messages alone; those that instruct are not counted.
            max_tokens: At most so many tokens, those that instruct included.
            count_tokens: Counts the tokens of a text: any callable, or an encoding of tiktoken. By default an estimate:
                one for 4 ASCII characters, and for each other character. 4 are added for a message, 1,000 for an image
                or a file.
            roles: Messages of these roles alone; they are chosen first.
            since: Messages made at that time or later alone, or those from this one (or its id) on.
            format: ``"openai"``, ``"anthropic"`` or ``"gemini"``: exactly as that API takes them. The list's ``system``
                has the system text for the last two. Where the assistant speaks first, and the API wants a user first,
                a user's message stands before it: ``[the assistant speaks first]``. By default, roles, content and tool
                calls are as they were added.
            interrupted: A call of a tool without a result, as a crash leaves it, is followed by a result that says so
                (``"tell"``), or is left out (``"leave out"``): the model then does not know that it made the call.
            speakers: What roles mean that no API knows: ``{"doctor": "assistant", "patient": "user"}``; ``"told"`` is a
                user's message that begins with the role: ``[doctor]``. A *format* needs it for such a role.

        Raises:
            InvalidValueError: The instructions and what begins the newest turn take more than *max_tokens*; or the API
                of *format* does not know a role, which the error names.
            SessionStateError: All that it could return are results of tools without their calls.

        >>> session = Session()
        >>> for n in range(3):
        ...     _ = session.add_message("user", f"Question {n}")
        ...     _ = session.add_message("assistant", f"Answer {n}")
        >>> session.history(last=2)
        [{'role': 'user', 'content': 'Question 2'}, {'role': 'assistant', 'content': 'Answer 2'}]

        """
        check_limit(last, "last")
        check_limit(max_tokens, "max_tokens")
        instructions, body, older = self._window(since)
        if roles is None and self._history.unloaded + self._history.hidden:
            loaded = len(self.messages)
            last = loaded if last is None else min(last, loaded)  # as in a window of the whole session
        choice = Choice.of(last=last, roles=roles, speakers=speakers, interrupted=interrupted)
        first = choice.told(instructions)
        budget = Budget(None, max_tokens, counter(count_tokens))
        if not budget.take(first):
            problem = f"is {max_tokens}; the messages that instruct the model take more: {budget.size(first)}"
            raise InvalidValueError("max_tokens", f"{problem}. Raise it, or shorten them")
        groups = window(body, older, choice, budget)
        if groups is None:
            problem = (
                "has no message that a model can be given among those: they are results of tools without their calls"
            )
            remedy = "raise last=, so that the calls are among them; session.repair(write=True) removes what has none"
            raise SessionStateError(self.session_id, f"{problem}; {remedy}")
        said = [*first, *(each for group in groups for each in group)]
        if format is None:
            return Prompt(as_added(said))
        choice.check_roles(said, format)
        return write_prompt([each.message for each in said], format)

    def _window(
        self, since: datetime | str | float | Message | None
    ) -> tuple[list[Message], Sequence[Message], Iterable[Message] | None]:
        """Return what instructs the model, the other messages of a window, and those before them, newest first.

        The last are None where *since* leaves them out.
        """
        history = self._history
        log, unloaded = history.log, history.unloaded
        instructions = history.instructions if unloaded else _leading(log)
        leading = history.leading if unloaded else len(instructions)
        first = list(instructions)
        begin = leading
        if self.summary is not None:
            begin = max(begin, self.summary.message_count)
            first.append(Message("system", self.summary.content, timestamp=self.summary.created_at))
        asked = [history.question.message] if history.question and history.question.place >= begin else []
        begin = max(0, begin - unloaded)
        start = max(history.hidden, begin)
        body = log[start:]
        older = chain((log[n] for n in range(start - 1, begin - 1, -1)), asked)
        if since is None:
            return first, body, older
        found = self._since(since) if isinstance(since, (str, Message)) else check_time(since, "since")
        left = log[max(start, found) :] if isinstance(found, int) else [e for e in body if e.timestamp >= found]
        return first, left, older if len(left) == len(body) else None

    def _since(self, since: str | Message) -> int | datetime:
        """Return the place of a message, given by itself or by its id; or the time that a text says."""
        message_id = id_of(since, "since")
        index = self._history.find(message_id)
        if index is not None:
            return index
        try:
            return check_time(message_id, "since")
        except InvalidValueError as err:
            partly = f" among those loaded; it {_PARTIAL}" if self._history.unloaded else ""
            problem = f"has no message {shown(message_id)}{partly}. since= is a message, the id of one, or a time"
            raise SessionStateError(self.session_id, f"{problem}, which {err.problem}") from err

    def repair(self, *, write: bool = False) -> list[Orphan]:
        """Find calls of tools without a result, and results without their call; *write* takes them out.

        `history` leaves them out anyway. A message that holds nothing but such calls is removed, like a result; the
        others lose the call. Where the session is loaded in part, a result is no orphan: its call may lie in the rest.
        """
        history = self._history
        log = history.log
        says = [each for message in log for each in told(message)]
        groups, orphans = paired(says)
        if history.unloaded:
            orphans = [each for each in orphans if each.kind == "call"]
        if write and orphans:
            bad = {each.message_id for each in orphans}
            left: dict[str, list[Told]] = {each: [] for each in bad}
            for each in chain.from_iterable(groups):
                if each.message.message_id in bad:
                    left[each.message.message_id].append(each)
            first = next(n for n, each in enumerate(log) if each.message_id in bad)
            rest = [_repaired(each, left[each.message_id]) if each.message_id in bad else each for each in log[first:]]
            self._rewrite(first, [each for each in rest if each is not None])
        return orphans

    def compact(self, summary: str, *, keep_last: int = 0) -> Summary:
        """Let a summary stand for the messages so far where a model is given the history, and return it.

        The newest *keep_last* messages, back to the beginning of that turn, stay as they are. The whole conversation
        stays stored, and `messages` has it. A summary before is replaced: `history` shows it, to sum it up as well.

        Raises:
            SessionStateError: There is nothing before those messages to sum up.

        """
        check_limit(keep_last, "keep_last")
        log, unloaded = self._history.log, self._history.unloaded
        end = turn_at(log, len(log) - keep_last) if keep_last else len(log)
        if unloaded + end <= (self._history.leading if unloaded else len(_leading(log))) or end <= 0:
            problem = self._why_not_summed_up(keep_last)
            raise SessionStateError(self.session_id, f"{problem}; it {_PARTIAL}" if unloaded else problem)
        made = Summary(summary, unloaded + end, log[end - 1].message_id, self._history.clock())
        if not made.content:
            raise InvalidValueError("summary", "is empty; it is the text that stands for the messages")
        self.summary = made
        self.touch()
        return made

    def _why_not_summed_up(self, keep_last: int) -> str:
        count = self.message_count - (
            self._history.leading if self._history.unloaded else len(_leading(self._history.log))
        )
        if not count:
            return "has no message to sum up"
        if keep_last >= count:
            kept = f"keep_last={shown(keep_last)} keeps all of them; give a smaller one"
            return f"has {counted(count, 'message')} to sum up, and {kept}"
        kept = "message belongs" if keep_last == 1 else f"{keep_last} messages belong"
        problem = f"has nothing to sum up before the turn that its last {kept} to, since a turn is kept whole"
        return f"{problem}; keep_last=0 sums up all of it"

    def pop(self) -> Message:
        """Remove the last message and return it."""
        log = self._history.log
        if not log:
            raise SessionStateError(self.session_id, _PARTIAL if self._history.unloaded else "has no message to pop")
        message = log[-1]
        self._rewrite(len(log) - 1, [])
        return message

    def replace_message(self, message_id: str | Message, /, **changes: Any) -> Message:
        """Put a changed copy in the place of a message and return it; the id stays.

        Branches and forks keep the message as it was. To take words out of all that is stored, use ``manager.redact``.
        """
        if "message_id" in changes:
            raise InvalidValueError("message_id", "names the message to replace and cannot change")
        index = self._index(message_id)
        old = self._history.log[index]
        with converting(self._history.default):
            message = replace(old, **changes)
        message.keep_unknown(old.unknown_fields)
        self._rewrite(index, [message, *self._history.log[index + 1 :]])
        return message

    def insert_message(self, before: str | Message, role: str, content: Any, **fields: Any) -> Message:
        """Insert a message before the one with the id *before*, and return it; *fields* are those of `add_message`.

        Where the session has a message of that id and content already, that one is returned, and stays where it is.
        """
        index = self._index(before, "before")
        fields.setdefault("timestamp", self._history.log[index].timestamp)
        message = self._message(role, content, fields)
        known = self._history.admit(message)
        if known is None:
            self._rewrite(index, [message, *self._history.log[index:]])
        return known or message

    def remove_message(self, message_id: str | Message) -> Message:
        """Remove a message and return it."""
        index = self._index(message_id)
        message = self._history.log[index]
        self._rewrite(index, self._history.log[index + 1 :])
        return message

    def clear_messages(self) -> None:
        """Remove all messages; metadata and state stay."""
        if self._history.unloaded:
            raise SessionStateError(self.session_id, _PARTIAL)
        self._rewrite(0, [])

    def checkpoint(self, name: str) -> Checkpoint:
        """Remember this point of the conversation, state included, under *name*, and return it.

        A checkpoint of the same name is replaced.
        """
        name = check_id(name, "name")
        log = self._history.log
        last = log[-1].message_id if log else None
        made = Checkpoint(name, self.message_count, last, plain_object(self.state, "state"), self._history.clock())
        self.checkpoints = [each for each in self.checkpoints if each.name != name] + [made]
        self.touch()
        return made

    def rewind(self, to: str | int | Checkpoint | Message) -> Branch | None:
        """Go back to a point of the conversation; return the branch that is left so, None where nothing follows it.

        *to* is a checkpoint or its name: the state becomes what it was then. Or it is a message or its id, which
        becomes the last. Or it is a number of turns, which go; a user's message begins one. `branches` has what was
        left until `prune`, or until 32 others have been left; ``manager.switch`` goes on from it.

        Raises:
            InvalidValueError: There is no such checkpoint or message.
            SessionStateError: The history is no longer that of the checkpoint, has fewer turns, or was loaded only in
                part and that part does not reach so far.

        """
        to = to.message_id if isinstance(to, Message) else to
        found = to if isinstance(to, Checkpoint) else None
        if isinstance(to, str):
            found = next((each for each in self.checkpoints if each.name == to), None)
        elif found is not None and found not in self.checkpoints:
            raise InvalidValueError("to", f"is {shown(found)}, none of session.checkpoints; give one of those")
        if found is not None:
            keep = self._kept_by(found)
        elif isinstance(to, str):
            keep = self._kept_up_to(to)
        else:
            keep = self._kept_without(cast("int", to))
        left = None
        if keep < len(self._history.log):
            left = leave(self)
            self._rewrite(keep, [])
        count = self.message_count
        self.checkpoints = [each for each in self.checkpoints if each.message_count <= count]
        if found is not None:
            self.state = plain_object(found.state, "state")
            self._history.added_to.clear()
        self.touch()
        return left

    def _kept_by(self, checkpoint: Checkpoint) -> int:
        log, unloaded = self._history.log, self._history.unloaded
        keep = checkpoint.message_count - unloaded
        if unloaded and keep <= 0:
            raise SessionStateError(self.session_id, _PARTIAL)
        if keep > len(log) or (keep and log[keep - 1].message_id != checkpoint.last_message_id):
            raise SessionStateError(self.session_id, f"no longer has the history of checkpoint {checkpoint.name!r}")
        return keep

    def _kept_up_to(self, message_id: str) -> int:
        index = self._history.find(message_id)
        if index is not None:
            return index + 1
        names = ", ".join(repr(each.name) for each in self.checkpoints) or "none"
        partly = f"; it {_PARTIAL}" if self._history.unloaded else ""
        raise InvalidValueError(
            "to", f"is {shown(message_id)}, no id of a message; the session's checkpoints are: {names}{partly}"
        )

    def _kept_without(self, turns: int) -> int:
        if isinstance(turns, bool) or not isinstance(turns, int) or turns < 0:
            raise InvalidValueError("to", f"is {shown(turns)}; it is a checkpoint, a message id, or a number of turns")
        log = self._history.log
        begins = [n for n, each in enumerate(log) if is_users(each)]
        if turns > len(begins):
            problem = f"has {counted(len(begins), 'turn')}, not {shown(turns)}"
            if not begins and log:
                roles = ", ".join(sorted({repr(each.role) for each in log}))
                problem += f": a message of the role 'user' begins one, and its roles are {roles}"
            remedy = f"it {_PARTIAL}" if self._history.unloaded else "give at most so many"
            raise SessionStateError(self.session_id, f"{problem}; {remedy}")
        return begins[-turns] if turns else len(log)

    def prune(self, branch: str | Branch | None = None) -> None:
        """Forget a branch, given by itself or by its id, or all of them; saving the session frees what they held."""
        left = self._history.branches
        gone = left if branch is None else [branch_of(self, check_branch(branch))]
        self._history.branches = [each for each in left if each not in gone]
        self.touch()

    def _index(self, message: str | Message, name: str = "message_id") -> int:
        message_id = id_of(message, name)
        index = self._history.find(message_id)
        if index is None:
            partly = self._history.unloaded
            remedy = f" among those loaded; it {_PARTIAL}" if partly else "; the ids are in session.messages"
            raise SessionStateError(self.session_id, f"has no message {shown(message_id)}{remedy}")
        return index

    def _rewrite(self, index: int, rest: list[Message]) -> None:
        history = self._history
        history.rewrite(index, rest)
        if self.summary is not None and self.summary.message_count > history.unloaded + index:
            last = history.find(self.summary.last_message_id)
            count = None if last is None else history.unloaded + last + 1
            self.summary = None if count is None else replace(self.summary, message_count=count)
        self.touch()

    # Metadata, state, status -------------------------------------------------------------------------------------

    def set_state(self, key: str, value: Any) -> None:
        """Set a value of the state: JSON, copied.

        Where two writers save the same session, dicts are merged by key, at every depth. Where both set the same key to
        different values the later save's stays; ``save(session, on_conflict="error")`` raises instead. What several
        writers count or collect is changed by `increment_state` and `extend_state`.

        Raises:
            InvalidValueError: JSON cannot hold it; the error names the part.

        """
        key = check_text(key, "key")
        self.state[key] = value
        self._history.added_to.discard(key)
        self.touch()

    def increment_state(self, key: str, by: float = 1) -> Any:
        """Add to a number of the state, 0 if absent, and return it. Where two writers do so, both additions count.

        Also in a save that is repeated after a failure: it raises `SessionConflictError` where it cannot be told
        whether the addition was stored already.

        Raises:
            InvalidValueError: *by* is no number, or the value is not.

        >>> session = Session(state={"turns": 2})
        >>> session.increment_state("turns"), session.increment_state("tokens", by=512)
        (3, 512)

        """
        key, old = check_text(key, "key"), self.state.get(key, 0)
        for name, value in (("by", by), (f"state[{key!r}]", old)):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise InvalidValueError(name, f"is {kind_of(value)}; increment_state adds a number to a number")
        self.state[key] = old + by
        self._history.added_to.add(key)
        self.touch()
        return self.state[key]

    def extend_state(self, key: str, items: Iterable[Any]) -> list[Any]:
        """Append items to a list of the state, empty if absent, and return it. Where two writers do so, both stay.

        Theirs come first, as with messages; a repeated save is safe as `increment_state` says.

        Raises:
            InvalidValueError: *items* are no list, the value is not, or JSON cannot hold one of them.

        >>> Session(state={"cart": ["tea"]}).extend_state("cart", ["milk"])
        ['tea', 'milk']

        """
        key, old = check_text(key, "key"), self.state.get(key, [])
        if isinstance(items, (str, bytes)) or is_mapping(items) or not isinstance(items, Iterable):
            raise InvalidValueError("items", f"is {kind_of(items)}; it is a list of what to append")
        if not is_array(old):
            raise InvalidValueError(f"state[{key!r}]", f"is {kind_of(old)}; extend_state appends to a list")
        self.state[key] = [*old, *items]
        self._history.added_to.add(key)
        self.touch()
        extended: list[Any] = self.state[key]
        return extended

    def get_state(self, key: str, default: Any = None) -> Any:
        """Return a value of the state, or *default*."""
        return self.state.get(check_text(key, "key"), default)

    def delete_state(self, key: str) -> None:
        """Remove a value of the state; absent is fine."""
        if check_text(key, "key") in self.state:
            del self.state[key]
            self._history.added_to.discard(key)
            self.touch()

    def archive(self) -> None:
        """Mark the session archived; saving it stores that, and is the last save until ``manager.restore``."""
        self.status = SessionStatus.ARCHIVED

    def touch(self) -> None:
        """Count as active now. Every method that changes the session does so."""
        self.updated_at = later(self._history.clock(), self.updated_at)

    # JSON --------------------------------------------------------------------------------------------------------

    def to_dict(self, encode_json: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 (the mixin's signature)
        """Return the whole session as JSON values, messages included: what `from_dict` takes.

        Raises:
            SessionStateError: Only a part of the messages is loaded.

        """
        if self._history.unloaded or self._history.hidden:
            raise SessionStateError(self.session_id, _PARTIAL)
        made = super().to_dict(encode_json)
        made["status"] = self.status.value
        branches = [
            line_to_dict(each, self._history.log)
            for each in self._history.branches
            if each.left and not each.left.unloaded
        ]
        return {
            "format": 1,
            **made,
            **({"left": branches} if branches else {}),
            **({"revision": self.revision} if self.revision else {}),
            "message_count": self.message_count,
        }

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> Self:
        """Return the session that `to_dict` made *kvs* of, or that a stored one-page document holds.

        It can be changed and saved, as long as nobody has saved the session since the JSON was made. A message whose id
        an earlier one has gets a new one: ``<id>~2``.

        Raises:
            InvalidValueError: It is of a newer format, or a part of its messages lies in other documents.

        """
        if is_mapping(kvs):
            if kvs.get("format", 1) != 1:
                raise InvalidValueError("format", f"is {kvs['format']!r}; this release reads format 1")
            if kvs.get("sealed"):
                raise InvalidValueError("sealed", "names pages that hold the older messages; load it through a store")
            kvs, _ = unrepeated(kvs)
        made = super().from_dict(kvs, infer_missing=infer_missing)
        history = history_of(made)
        if is_mapping(kvs) and "left" in kvs:
            history.branches = lines_from_dicts(kvs["left"], history.log)
        if is_mapping(kvs) and isinstance(kvs.get("revision"), str):
            history.revision = kvs["revision"]
        return made

    def to_json(self, **options: Any) -> str:
        """Return the whole session as JSON text; *options* are those of `json.dumps`."""
        return json.dumps(self.to_dict(), **options)


_FIELDS = frozenset(Session.__dataclass_fields__)
_JSON_FIELDS = ("metadata", "state")
for _name in _JSON_FIELDS:
    setattr(Session, _name, JSONField(_name))

STORED = _FIELDS | {"unknown_fields"}
"""What a store keeps of a session's attributes."""


def _leading(log: Sequence[Message]) -> list[Message]:
    return list(takewhile(lambda each: instructs(each.role), log))


def _repaired(message: Message, left: Sequence[Told]) -> Message | None:
    """Return a message with what is *left* of it; None where that is nothing."""
    if not left:
        return None
    content, calls = joined(left)
    made = replace(message, content=content, tool_calls=calls)
    made.keep_unknown(message.unknown_fields)
    return made


# For stores: a session and its history are two parts of one thing ---------------------------------------------------


def history_of(session: Session) -> History:
    """Return the history behind a session's messages."""
    for _ in range(2):  # a signal handler may save the session in between; then both are others
        history: History = session._history  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (the one way in)
        if session.messages is history.messages:
            return history
    raise InvalidValueError("messages", "was assigned to; a history changes by the session's own methods")


def session_of(values: Mapping[str, Any], history: History) -> Session:
    """Return a session with these field values, which were read from a store: they are neither checked nor copied."""
    session = Session.__new__(Session)
    assign(session, values, history)
    return session


def leave(session: Session) -> Branch:
    """Let a session remember its conversation as it is now, as a branch, and return that."""
    history = history_of(session)
    last = history.log[-1].message_id if history.log else None
    branch = Branch(history.count, last, history.clock())
    values = {
        "state": plain_object(session.state, "state"),
        "checkpoints": list(session.checkpoints),
        "summary": session.summary,
    }
    left = replace(history, log=list(history.log), branches=[])
    history.branches = [*history.branches, Line(stored_of(branch), left=left, values=values)][-MAX_BRANCHES:]
    return branch


def switch(session: Session, branch_id: str) -> None:
    """Let a session, all of it in memory, go on from a branch, and remember how it went on till now.

    Raises:
        SessionStateError: It has no such branch.

    """
    history = history_of(session)
    line = branch_of(session, branch_id)
    left = line.left.log if line.left else []
    if history.count:
        leave(session)
    history.branches = [each for each in history.branches if each is not line]
    history.rewrite(common(left, history.log), [])
    history.extend(left[len(history.log) :])
    assign(session, line.values, history)
    session.touch()


def branch_of(session: Session, branch_id: str) -> Line:
    """Return a branch of a session.

    Raises:
        SessionStateError: It has no such branch.

    """
    for each in history_of(session).branches:
        if each.branch_id == branch_id:
            return each
    raise SessionStateError(
        session.session_id, f"has no branch {shown(branch_id)}; session.branches has those that rewinds left"
    )


def assign(session: Session, values: Mapping[str, Any], history: History) -> None:
    """Let a session have these field values and this history."""
    if history.default is None:
        history.default = default_of(session)
    # In one step: an exception from outside leaves all as it was, or finds all done.
    vars(session).update({**values, "_history": history, "messages": history.messages})


def use_default(session: Session, default: Default | None) -> Session:
    """Let *default* convert what is given to a session from now on, and return the session."""
    history = history_of(session)
    if history.default is not default:
        history.default = default
        for name in _JSON_FIELDS:
            vars(session)[name] = plain_object(vars(session)[name], name)
    return session


def values_of(session: Session) -> dict[str, Any]:
    """Return a session's field values, without its messages: what `assign` takes."""
    values = {name: value for name, value in vars(session).items() if name in _FIELDS and name != "messages"}
    if session.unknown_fields:
        values["unknown_fields"] = session.unknown_fields
    return values
