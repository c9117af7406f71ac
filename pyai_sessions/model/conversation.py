"""The messages of a session: how they are added, changed, taken back and given to a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import chain, takewhile
from typing import Any, Literal, cast

from pyai_sessions.errors import InvalidValueError, SessionStateError
from pyai_sessions.model.branches import MAX_BRANCHES, check_branch, line_of, stored_of
from pyai_sessions.model.history import History, Line
from pyai_sessions.model.points import Branch, Checkpoint, Summary
from pyai_sessions.prompts.formats import Prompt, read_prompt, write_prompt
from pyai_sessions.prompts.formats.parts import instructs
from pyai_sessions.prompts.formats.shapes import PromptMessage, prompt_messages, remaining
from pyai_sessions.prompts.pairs import Orphan, paired, waiting
from pyai_sessions.prompts.tokens import CountTokens, counter
from pyai_sessions.prompts.windows import Budget, Choice, as_added, is_users, turn_at, window
from pyai_sessions.values.checks import check_id, check_limit, check_time, counted, shown
from pyai_sessions.values.codec import Document
from pyai_sessions.values.json import converting, plain_object
from pyai_sessions.values.messages import Message, id_of

_TICK = timedelta(microseconds=1)
_END = datetime.max.replace(tzinfo=timezone.utc)
PARTIAL = "is loaded only in part; load all of it with manager.load_history(session)"


def later(now: datetime, previous: datetime) -> datetime:
    """Return the time of a change that follows one at *previous*: never backwards, as lists are in that order."""
    if now > previous:
        return check_time(now, "clock()")
    return previous + _TICK if previous < _END else _END


class Conversation(Document):
    """What a `Session` does with its messages. The fields that this changes are the session's."""

    session_id: str
    state: dict[str, Any]
    updated_at: datetime
    checkpoints: list[Checkpoint]
    messages: Sequence[Message]
    summary: Summary | None
    _history: History

    def touch(self) -> None:
        """Count as active now. Every method that changes the session does so."""
        self.updated_at = later(self._history.clock(), self.updated_at)

    @property
    def message_count(self) -> int:
        """How many messages the conversation has, those that were not loaded included."""
        return self._history.count

    @property
    def branches(self) -> list[Branch]:
        """What rewinds left, oldest first, of the newest 32: ``manager.switch`` goes on from one, `prune` forgets them.

        They stay with the store: `to_dict` has those alone that were left since the session was loaded, or that a
        custom store gave.
        """
        return [each.branch for each in self._history.branches]

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

        >>> from pyai_sessions import Session
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
        first = choice.prompt_messages(instructions)
        budget = Budget(None, max_tokens, counter(count_tokens))
        left = budget.after(first)
        if left is None:
            problem = f"is {max_tokens}; the messages that instruct the model take more: {budget.size(first)}"
            raise InvalidValueError("max_tokens", f"{problem}. Raise it, or shorten them")
        groups = window(body, older, choice, left)
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
        asked = [history.asked.message] if history.asked and history.asked.place >= begin else []
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
            partly = f" among those loaded; it {PARTIAL}" if self._history.unloaded else ""
            problem = f"has no message {shown(message_id)}{partly}. since= is a message, the id of one, or a time"
            raise SessionStateError(self.session_id, f"{problem}, which {err.problem}") from err

    def repair(self, *, write: bool = False) -> list[Orphan]:
        """Find calls of tools without a result, and results without their call; *write* takes them out.

        `history` leaves them out anyway. A message that holds nothing but such calls is removed, like a result; the
        others lose the call. Where the session is loaded in part, a result is no orphan: its call may lie in the rest.
        """
        history = self._history
        log = history.log
        messages = [each for message in log for each in prompt_messages(message)]
        groups, orphans = paired(messages)
        if history.unloaded:
            orphans = [each for each in orphans if each.kind == "call"]
        if write and orphans:
            bad = {each.message_id for each in orphans}
            left: dict[str, list[PromptMessage]] = {each: [] for each in bad}
            for each in chain.from_iterable(groups):
                if each.message.message_id in bad:
                    left[each.message.message_id].append(each)
            for n in [n for n, each in enumerate(log) if each.message_id in bad][::-1]:
                self._change(n, _repaired(log[n], left[log[n].message_id]))
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
            raise SessionStateError(self.session_id, f"{problem}; it {PARTIAL}" if unloaded else problem)
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
            raise SessionStateError(self.session_id, PARTIAL if self._history.unloaded else "has no message to pop")
        message = log[-1]
        self._change(len(log) - 1, None)
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
        self._change(index, message)
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
        self._change(index, None)
        return message

    def clear_messages(self) -> None:
        """Remove all messages; metadata and state stay."""
        if self._history.unloaded:
            raise SessionStateError(self.session_id, PARTIAL)
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
            left = leave(self, self._history)
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
            raise SessionStateError(self.session_id, PARTIAL)
        if keep > len(log) or (keep and log[keep - 1].message_id != checkpoint.last_message_id):
            raise SessionStateError(self.session_id, f"no longer has the history of checkpoint {checkpoint.name!r}")
        return keep

    def _kept_up_to(self, message_id: str) -> int:
        index = self._history.find(message_id)
        if index is not None:
            return index + 1
        names = ", ".join(repr(each.name) for each in self.checkpoints) or "none"
        partly = f"; it {PARTIAL}" if self._history.unloaded else ""
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
            remedy = f"it {PARTIAL}" if self._history.unloaded else "give at most so many"
            raise SessionStateError(self.session_id, f"{problem}; {remedy}")
        return begins[-turns] if turns else len(log)

    def prune(self, branch: str | Branch | None = None) -> None:
        """Forget a branch, given by itself or by its id, or all of them; saving the session frees what they held."""
        left = self._history.branches
        gone = left if branch is None else [line_of(self._history, check_branch(branch), self.session_id)]
        self._history.branches = [each for each in left if each not in gone]
        self.touch()

    def _index(self, message: str | Message, name: str = "message_id") -> int:
        message_id = id_of(message, name)
        index = self._history.find(message_id)
        if index is None:
            partly = self._history.unloaded
            remedy = f" among those loaded; it {PARTIAL}" if partly else "; the ids are in session.messages"
            raise SessionStateError(self.session_id, f"has no message {shown(message_id)}{remedy}")
        return index

    def _change(self, index: int, message: Message | None) -> None:
        self._history.change(index, message)
        self._changed_from(index)

    def _rewrite(self, index: int, rest: list[Message]) -> None:
        self._history.rewrite(index, rest)
        self._changed_from(index)

    def _changed_from(self, index: int) -> None:
        history = self._history
        if self.summary is not None and self.summary.message_count > history.unloaded + index:
            last = history.find(self.summary.last_message_id)
            count = None if last is None else history.unloaded + last + 1
            self.summary = None if count is None else replace(self.summary, message_count=count)
        self.touch()


def _leading(log: Sequence[Message]) -> list[Message]:
    return list(takewhile(lambda each: instructs(each.role), log))


def _repaired(message: Message, left: Sequence[PromptMessage]) -> Message | None:
    """Return a message with what is *left* of it; None where that is nothing."""
    if not left:
        return None
    content, calls = remaining(left)
    made = replace(message, content=content, tool_calls=calls)
    made.keep_unknown(message.unknown_fields)
    return made


def leave(session: Conversation, history: History) -> Branch:
    """Let a session remember its conversation as it is now, as a branch, and return that."""
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
