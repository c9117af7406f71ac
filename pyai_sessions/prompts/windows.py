"""The window of a conversation that a model is given: the longest that fits, and that its API takes.

How a window is made, in this order:

1. `Choice` is what the caller of `history` asked for. `Choice.prompt_messages` translates stored messages into one
   shape for all APIs (`formats.shapes`); what follows knows no API.
2. `pairs.paired` puts each call of a tool and its results into one group: it stays whole or goes whole.
3. `newest` takes groups from the end, turn by turn, until the `Budget` is used up. What is cut begins with a user's
   message: the question of the oldest turn stays, with as many of its newest groups as fit.
4. A format writes what is left (`formats`), or `as_added` gives it back as it was added.

So the rule of one API is in its format's module, and a rule that all share is here or in `pairs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats.shapes import PromptMessage, prompt_messages, remaining, says_nothing
from pyai_sessions.prompts.pairs import Group, paired
from pyai_sessions.prompts.tokens import tokens_of
from pyai_sessions.values.checks import check_choice, check_items, check_text, counted, kind_of, shown
from pyai_sessions.values.json import is_mapping, thawed
from pyai_sessions.values.messages import Message

_ANSWERS = p.SYSTEM | {"assistant", "tool"}
"""Roles whose messages do not begin a turn."""

_KNOWN = ("user", "assistant", "system", "developer", "tool")


class Budget(NamedTuple):
    """The messages and tokens for which a window still has room.

    Attributes:
        messages: The number of messages; None means any number.
        tokens: The number of tokens; None means any number.
        count_tokens: Counts the tokens of a text.
        seen: Ids of stored messages that are counted already, because a part of them was taken.

    """

    messages: int | None
    tokens: int | None
    count_tokens: Callable[[str], int]
    seen: frozenset[str] = frozenset()

    def after(self, group: Group) -> Budget | None:
        """Return the room left after taking *group*, or None if it does not fit."""
        messages, tokens, count_tokens, seen = self
        if messages is tokens is None:
            return self
        if messages is not None:
            parts = {each.message.message_id for each in group if each.source and each.blocks is not None}
            messages -= sum(each.source is None or each.blocks is None for each in group) + len(parts - seen)
            seen |= parts
        if tokens is not None:
            tokens -= self.size(group)
        return None if (messages or 0) < 0 or (tokens or 0) < 0 else Budget(messages, tokens, count_tokens, seen)

    def size(self, group: Group) -> int:
        """Return how many tokens a group takes."""
        return sum(tokens_of(each.message, self.count_tokens) for each in group)


def begins_turn(each: PromptMessage) -> bool:
    """Return whether a message begins a turn: it is a user's, or is given to the model as a user's."""
    return each.message.role not in _ANSWERS


def begins(message: Message) -> bool:
    """Return whether a stored message, or a part of it, begins a turn."""
    return any(map(begins_turn, prompt_messages(message)))


def is_users(message: Message) -> bool:
    """Return whether a user speaks in a message: it holds more than results of tools."""
    return any(each.message.role == "user" for each in prompt_messages(message))


def turn_at(log: Sequence[Message], index: int) -> int:
    """Return the place of the message that begins the turn of the message at *index*; 0 or less for the first turn.

    If no message begins a turn, return *index*, or the place of an earlier tool call whose result comes later.
    """
    places = (n for n in range(min(index, len(log) - 1), -1, -1) if begins(log[n]))
    found = next(places, None)
    if found is not None or any(map(begins, log)):
        return found or 0
    place = {each.message_id: n for n, each in enumerate(log)}
    groups, _ = paired(each for message in log for each in prompt_messages(message))
    for caller, *results in reversed(groups):
        begin = place[caller.message.message_id]
        if begin < index <= max((place[each.message.message_id] for each in results), default=begin):
            index = begin
    return index


def start_of(log: Sequence[Message], last: int) -> int:
    """Return the place of the first of the newest *last* messages that say something; 0 if there are fewer."""
    place = len(log)
    while last > 0 and place > 0:
        place -= 1
        last -= not says_nothing(log[place])
    return place


def newest(
    groups: Sequence[Group], budget: Budget, *, aligned: bool = True, question: PromptMessage | None = None
) -> list[Group] | None:
    """Return the newest turns that fit, or None if not even the message that begins the newest turn fits.

    A turn goes from a user's message to the next; where not *aligned*, all is one turn, which no message begins. Of
    the oldest turn that does not fit whole, the message that begins it stays, with as many of its newest groups as fit.
    If the first group does not begin a turn, *question* does.
    """
    turns: list[list[Group]] = []
    for group in groups:
        if not turns or (aligned and begins_turn(group[0])):
            turns.append([])
        turns[-1].append(group)
    chosen: list[list[Group]] = []
    for turn in reversed(turns):
        has_head = aligned and begins_turn(turn[0][0])
        head = turn[:1] if has_head else [[question]] if question is not None else []
        steps = turn[1:] if has_head else turn
        left = budget.after(list(chain.from_iterable(head)))
        if left is None:
            break
        kept: list[Group] = []
        for group in reversed(steps):
            rest = left.after(group)
            if rest is None:
                break
            left = rest
            kept.append(group)
        if kept or (head and not (steps and chosen)):  # a question alone says nothing beside newer turns
            chosen.append([*head, *reversed(kept)])
            budget = left
        if len(kept) < len(steps):
            break
    if not turns and question is not None and budget.after([question]):
        chosen.append([[question]])
    return [group for turn in reversed(chosen) for group in turn] if chosen or not (turns or question) else None


class Choice(NamedTuple):
    """The arguments of `history`, checked.

    Attributes:
        last: The number of newest messages to choose from; None means all.
        roles: The roles to keep; None means all.
        speakers: The meanings of roles that APIs do not know.
        tell: Whether a call without a result is kept, with a result that says so.

    """

    last: int | None
    roles: frozenset[str] | None
    speakers: Mapping[str, str]
    tell: bool

    @classmethod
    def of(
        cls, *, last: int | None, roles: Iterable[str] | None, speakers: Mapping[str, str] | None, interrupted: str
    ) -> Choice:
        """Return the choice that these arguments make, or raise."""
        check_choice(interrupted, "interrupted", "tell", "leave out")
        if speakers is not None and not is_mapping(speakers):
            problem = f"is {kind_of(speakers)}; it is a dict from roles to what they mean: {{'human': 'user'}}"
            raise InvalidValueError("speakers", problem)
        for role, meant in (speakers or {}).items():
            check_text(role, "speakers")
            check_choice(meant, f"speakers[{shown(role)}]", *_KNOWN, "told")
        wanted = None
        if roles is not None:
            given = [roles] if isinstance(roles, str) else check_items(roles, "roles", "roles")
            wanted = frozenset(check_text(each, "roles") for each in given)
        return cls(last, wanted, dict(speakers or {}), interrupted == "tell")

    def check_roles(self, messages: Iterable[PromptMessage], api: str) -> None:
        """Raise if a message has a role that the API does not know and *speakers* does not explain."""
        roles = dict.fromkeys(each.message.role for each in messages if each.message.role not in _KNOWN)
        unknown = [each for each in roles if each not in self.speakers]
        if unknown:
            asked = ", ".join(f"{each!r}: ..." for each in unknown)  # a guess, copied, would change who says what
            accepted = f"{', '.join(map(repr, _KNOWN))}, or 'told', as a user's message that begins with [{unknown[0]}]"
            problem = f"is {' and '.join(map(repr, unknown))} in some messages, which the API of {api!r} does not know"
            raise InvalidValueError("role", f"{problem}; say who speaks: speakers={{{asked}}}. It is {accepted}")

    def prompt_messages(self, messages: Iterable[Message]) -> list[PromptMessage]:
        """Return stored messages as prompt messages, of the wanted roles only."""
        speakers = self.speakers
        every = [each for message in messages for each in prompt_messages(message, speakers)]
        if self.roles is None:
            return every
        meant, own = self.meant, {each for each in self.roles if p.role_of(each) is None}
        return [each for each in every if each.message.role in meant or (each.source and each.source.role in own)]

    @property
    def meant(self) -> frozenset[str]:
        """The wanted roles, under the names that APIs use."""
        return frozenset(p.role_of(each) or each for each in self.roles or ())

    @property
    def is_aligned(self) -> bool:
        """Whether the wanted roles include one that begins turns."""
        return self.roles is None or not self.meant <= _ANSWERS


def window(
    body: Sequence[Message], older: Iterable[Message] | None, choice: Choice, budget: Budget
) -> list[Group] | None:
    """Return the longest window of *body* that fits, or None if *body* holds only results without their calls.

    *older* are the messages before it, the newest first: the question of the first turn may be one of them. None: they
    are not asked for; the window then begins with a question of its own, if there is one.

    Raises:
        InvalidValueError: What begins the newest turn takes more tokens than there are.

    """
    aligned, last = choice.is_aligned, choice.last
    if choice.roles is None and last is not None:
        start = start_of(body, last)
        older = older and chain(reversed(body[:start]), older)
        body = body[start:]
    messages = choice.prompt_messages(each for each in body if not says_nothing(each))
    if choice.roles is not None and last is not None:
        ids = dict.fromkeys(each.message.message_id for each in reversed(messages))
        kept = set(islice(ids, last))
        older = older and chain((each for each in reversed(body) if each.message_id not in kept), older)
        messages = [each for each in messages if each.message.message_id in kept]
    if not messages:
        return []
    budget = budget._replace(messages=last)
    groups, _ = paired(messages, tell=choice.tell and (choice.roles is None or "tool" in choice.meant))
    question = None
    if aligned and not begins_turn(messages[0]):
        if older is None:
            groups = groups[next((n for n, each in enumerate(groups) if begins_turn(each[0])), 0) :]
        else:
            every = (each for message in older for each in reversed(choice.prompt_messages([message])))
            question = next(filter(begins_turn, every), None)
    if not groups and question is None:
        return None
    chosen = newest(groups, budget, aligned=aligned, question=question)
    if chosen is None:
        heads = [each[0] for each in groups if begins_turn(each[0])] if aligned else []
        least = heads[-1:] if heads else [question] if question else groups[-1]
        what = "the question of the newest turn" if heads or question else "the newest message"
        problem = f"leaves {counted(budget.tokens or 0, 'token')} beside the instructions, and {what} takes"
        raise InvalidValueError("max_tokens", f"{problem} {budget.size(least)}; raise it, or shorten the message")
    return chosen


def as_added(messages: Sequence[PromptMessage]) -> Iterator[dict[str, Any]]:
    """Yield messages in the shape in which they were added, without the calls that were taken out."""
    n = 0
    while n < len(messages):
        each = messages[n]
        n += 1
        given = each.source or each.given or each.message
        content, calls = given.content, given.tool_calls
        if each.source is not None and (each.blocks is not None or each.kept is not None):
            parts = [each]
            while n < len(messages) and messages[n].source is each.source:
                parts.append(messages[n])
                n += 1
            content, calls = remaining(parts)
        made = {"role": thawed(given.role), "content": thawed(content)}
        if given.name is not None:
            made["name"] = thawed(given.name)
        if calls is not None:
            made["tool_calls"] = thawed(calls)
        if given.tool_call_id is not None:
            made["tool_call_id"] = thawed(given.tool_call_id)
        yield made
