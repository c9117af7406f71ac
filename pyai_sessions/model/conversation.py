"""The messages of a session: adding, changing and removing them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import chain
from typing import Any

from pyai_sessions.errors import InvalidValueError, SessionStateError
from pyai_sessions.model.history import History
from pyai_sessions.model.points import Summary
from pyai_sessions.prompts.formats import read_prompt
from pyai_sessions.prompts.formats.shapes import PromptMessage, prompt_messages, remaining
from pyai_sessions.prompts.pairs import Orphan, paired, waiting
from pyai_sessions.values.checks import check_time, shown
from pyai_sessions.values.codec import Document
from pyai_sessions.values.json import converting
from pyai_sessions.values.messages import Message, id_of, replaced

_TICK = timedelta(microseconds=1)
_END = datetime.max.replace(tzinfo=timezone.utc)
PARTIAL = "is loaded only in part; load all of it with manager.load_history(session)"


def later(now: datetime, previous: datetime) -> datetime:
    """Return the time of a change after one at *previous*: never an earlier one, since it orders lists."""
    if now > previous:
        return check_time(now, "clock()")
    return previous + _TICK if previous < _END else _END


class Conversation(Document):
    """The part of `Session` that holds messages."""

    session_id: str
    updated_at: datetime
    messages: Sequence[Message]
    summary: Summary | None
    _history: History

    def touch(self) -> None:
        """Set ``updated_at`` to the present time. Every method that changes the session does so."""
        self.updated_at = later(self._history.clock(), self.updated_at)

    @property
    def message_count(self) -> int:
        """How many messages the conversation has, including those that are not loaded."""
        return self._history.count

    def add_message(self, role: str, content: Any, **fields: Any) -> Message:
        """Append a message and return it; `SessionManager.save` stores it.

        *fields* are those of `Message`: metadata, timestamp, message_id, tool_calls, tool_call_id, name.

        A message with a *message_id* of your own is stored once: if the session already has that message, with the same
        content, it is returned. If the session is loaded in part, the save looks for the id in the older messages.

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
        """Append what a model's client was given or returned, and return it as messages. Appends all of it, or nothing.

        *items* are messages as dicts, or objects of the client's package, in *format* ``"openai"`` (Chat Completions),
        ``"responses"`` (OpenAI's), ``"anthropic"`` (Messages), ``"gemini"`` (contents) or ``"bedrock"`` (Converse). You
        may pass what `history` returned. If you give no *format*, other shapes are recognised and translated: OpenAI's
        Responses, LangChain's messages as dicts, blocks of Anthropic and Bedrock, Gemini's contents, Ollama's messages.

        A `Message`, or the result of `Message.to_dict`, keeps all its fields. Any other item may also have a
        ``timestamp``, ``metadata`` and a ``message_id``. Unknown keys are kept, and sent to no API.

        Raises:
            InvalidValueError: An item is not in that format; the error says which, and what is accepted.

        """
        with converting(self._history.default):
            added = read_prompt(items, format, clock=self._history.clock, calls=waiting(self._history.log))
        added = self._history.extend(added)
        if added:
            self.touch()
        return added

    def repair(self, *, write: bool = False) -> list[Orphan]:
        """Find tool calls without a result and results without their call; *write* removes them.

        `history` leaves them out anyway. A message that contains nothing else is removed; other messages lose the call.
        If the session is loaded in part, results are not reported: their calls may be in the rest.
        """
        history = self._history
        log = history.log
        messages = [each for message in log for each in prompt_messages(message)]
        groups, orphans = paired(messages)
        if history.unloaded:
            orphans = [each for each in orphans if each.kind == "call"]
        if write and orphans:
            bad = {each.message_id for each in orphans}
            sound: dict[str, list[PromptMessage]] = {each: [] for each in bad}
            for each in chain.from_iterable(groups):
                if each.message.message_id in bad:
                    sound[each.message.message_id].append(each)
            for n in [n for n, each in enumerate(log) if each.message_id in bad][::-1]:
                self._change(n, _repaired(log[n], sound[log[n].message_id]))
        return orphans

    def pop(self) -> Message:
        """Remove the last message and return it."""
        log = self._history.log
        if not log:
            raise SessionStateError(self.session_id, PARTIAL if self._history.unloaded else "has no message to pop")
        message = log[-1]
        self._change(len(log) - 1, None)
        return message

    def replace_message(self, message_id: str | Message, /, **changes: Any) -> Message:
        """Put a changed copy in the place of a message and return it; the id stays the same.

        New *metadata* replace the former ones, but for what APIs and frameworks keep there under their names, such as
        ``"anthropic"`` or ``"langgraph"``. That stays as long as the message says the same.

        Branches and forks keep the message as it was. To remove words from everything that is stored, use
        ``manager.redact``.
        """
        if "message_id" in changes:
            raise InvalidValueError("message_id", "names the message to replace and cannot change")
        index = self._index(message_id)
        old = self._history.log[index]
        with converting(self._history.default):
            message = replaced(old, changes)
        self._change(index, message)
        return message

    def insert_message(self, before: str | Message, role: str, content: Any, **fields: Any) -> Message:
        """Insert a message before the one with the id *before*, and return it; *fields* are those of `add_message`.

        If the session already has a message with that id and content, it is returned and stays where it is.
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
        """Remove all messages, those that are not loaded included; metadata and state stay."""
        self._history.clear()
        self._changed_from(0)

    def _index(self, message: str | Message, name: str = "message_id") -> int:
        message_id = id_of(message, name)
        index = self._history.find(message_id)
        if index is None:
            remedy = self._among_loaded or "; the ids are in session.messages"
            raise SessionStateError(self.session_id, f"has no message {shown(message_id)}{remedy}")
        return index

    @property
    def _among_loaded(self) -> str:
        """What an error adds about a message that was not found, if the session is loaded only in part."""
        return f" among those loaded; it {PARTIAL}" if self._history.unloaded else ""

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


def put_message(session: Conversation, message: Message) -> None:
    """Put a message in the place of the one with the same id."""
    session._change(session._index(message), message)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _repaired(message: Message, sound: Sequence[PromptMessage]) -> Message | None:
    """Return a message with only its *sound* parts; None if it has none."""
    if not sound:
        return None
    content, calls = remaining(sound)
    made = replace(message, content=content, tool_calls=calls)
    made.keep_unknown(message.unknown_fields)
    return made
