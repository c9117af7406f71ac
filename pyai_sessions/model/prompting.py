"""What a model is given of a session: the history as a client takes it, and summaries in place of old messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Literal

from pyai_sessions.errors import InvalidValueError, SessionStateError
from pyai_sessions.model.conversation import PARTIAL, Conversation
from pyai_sessions.model.points import Summary
from pyai_sessions.prompts.formats import Prompt, write_prompt
from pyai_sessions.prompts.tokens import CountTokens, counter
from pyai_sessions.prompts.windows import Budget, Choice, as_added, start_of, turn_at, window
from pyai_sessions.values.checks import check_limit, check_text, check_time, counted, shown
from pyai_sessions.values.messages import Message, id_of


class Prompting(Conversation):
    """The part of `Session` that prepares its messages for a model."""

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

        The result is one that a model's API accepts: a tool call and its results are kept or left out together, results
        without a call are left out, and a history that was cut begins with a user's message. If the oldest turn does
        not fit whole, its question is kept with as many of its newest messages as fit. The messages that instruct the
        model (system, developer) at the beginning of the conversation are always kept; after `compact`, the summary
        follows them and replaces the messages that it sums up. The result is never empty if messages say something.

        A message of the assistant's that says nothing (no content, no calls) is left out and not counted. Frameworks
        store such messages for what is theirs alone, such as the checkpoints of a graph.

        Roles keep their usual names; ``human``, ``ai``, ``model``, ``bot`` and ``function`` are understood too. A
        message of a role that no API knows begins a turn.

        Args:
            last: Only the newest *last* messages; those that instruct the model are not counted.
            max_tokens: At most so many tokens, those that instruct the model included.
            count_tokens: Counts the tokens of a text: any callable, or an encoding of tiktoken. The default is an
                estimate: one token for 4 ASCII characters or for one other character, 4 for each message, 1,000 for an
                image or a file.
            roles: Only messages of these roles; they are chosen before anything else is.
            since: Only messages made at that time or later, or those from this message (or its id) on.
            format: ``"openai"``, ``"responses"`` (OpenAI's), ``"anthropic"``, ``"gemini"`` or ``"bedrock"``: exactly
                what that API takes. The list's attribute ``system`` is the system text, for APIs that take it apart
                from the messages. If the assistant speaks first and the API wants a user first, a user's message
                ``[the assistant speaks first]`` is put before it. By default, roles, content and tool calls are as they
                were added.
            interrupted: A tool call without a result, as a crash leaves it, is followed by a result that says so
                (``"tell"``), or is left out (``"leave out"``): then the model does not know that it made the call.
            speakers: The meaning of roles that no API knows: ``{"doctor": "assistant", "patient": "user"}``. ``"told"``
                makes it a user's message that begins with the role: ``[doctor]``. A *format* requires this for such
                roles.

        Raises:
            InvalidValueError: The instructions and the beginning of the newest turn take more than *max_tokens*; or the
                API of *format* does not know a role, which the error names.
            SessionStateError: All messages that could be returned are tool results without their calls.

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
        """Return the messages that instruct the model, the other messages of a window, and older ones, newest first.

        The older ones are None if *since* excludes them.
        """
        history = self._history
        log, unloaded = history.log, history.unloaded
        first = list(history.instructions if unloaded else history.loaded_instructions)
        begin = history.instruction_count
        if self.summary is not None:
            begin = max(begin, self.summary.message_count)
            first.append(Message("system", self.summary.content, timestamp=self.summary.created_at))
        question = [history.asked.message] if history.asked and history.asked.place >= begin else []
        begin = max(0, begin - unloaded)
        start = max(history.hidden, begin)
        body = log[start:]
        older = chain((log[n] for n in range(start - 1, begin - 1, -1)), question)
        if since is None:
            return first, body, older
        found = self._since(since) if isinstance(since, (str, Message)) else check_time(since, "since")
        chosen = log[max(start, found) :] if isinstance(found, int) else [e for e in body if e.timestamp >= found]
        return first, chosen, older if len(chosen) == len(body) else None

    def _since(self, since: str | Message) -> int | datetime:
        """Return the index of a message that is given by itself or by its id, or the time that a text says."""
        message_id = id_of(since, "since")
        index = self._history.find(message_id)
        if index is not None:
            return index
        try:
            return check_time(message_id, "since")
        except InvalidValueError as err:
            problem = (
                f"has no message {shown(message_id)}{self._among_loaded}. since= is a message, the id of one, or a time"
            )
            raise SessionStateError(self.session_id, f"{problem}, which {err.problem}") from err

    def compact(self, summary: str, *, keep_last: int = 0) -> Summary:
        """Replace the messages so far by a summary wherever a model is given the history, and return it.

        The newest *keep_last* messages are not summed up, nor the rest of the turn in which they begin. The whole
        conversation stays stored, and is in `messages`. An earlier summary is replaced; `history` shows it, so that you
        can sum it up too.

        Raises:
            SessionStateError: There is nothing before those messages to sum up.

        """
        check_limit(keep_last, "keep_last")
        summary = check_text(summary, "summary")
        log, unloaded = self._history.log, self._history.unloaded
        end = turn_at(log, start_of(log, keep_last)) if keep_last else len(log)
        if unloaded + end <= self._history.instruction_count or end <= 0:
            problem = self._why_not_summed_up(keep_last)
            raise SessionStateError(self.session_id, f"{problem}; it {PARTIAL}" if unloaded else problem)
        made = Summary(summary, unloaded + end, log[end - 1].message_id, self._history.clock())
        if not made.content:
            raise InvalidValueError("summary", "is empty; it is the text that stands for the messages")
        self.summary = made
        self.touch()
        return made

    def _why_not_summed_up(self, keep_last: int) -> str:
        count = self.message_count - self._history.instruction_count
        if not count:
            return "has no message to sum up"
        if keep_last >= count:
            kept = f"keep_last={shown(keep_last)} keeps all of them; give a smaller one"
            return f"has {counted(count, 'message')} to sum up, and {kept}"
        kept = "message belongs" if keep_last == 1 else f"{keep_last} messages belong"
        problem = f"has nothing to sum up before the turn that its last {kept} to, since a turn is kept whole"
        return f"{problem}; keep_last=0 sums up all of it"
