"""Which messages of a conversation a model is given: what belongs together, and the longest window that fits.

The rules are those of the model APIs: a call for a tool is followed by its result, a result has its call, and what is
cut begins with a user's message. A conversation that was cut short, interrupted or written by two can break them for
good; a window of it never does. What a message says, whatever its shape, `formats.shapes` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, Literal, NamedTuple, Protocol

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats.shapes import Told, altered, interrupted, joined, told
from pyai_sessions.values.checks import check_choice, check_items, check_text, counted, kind_of, shown
from pyai_sessions.values.json import is_array, is_mapping, thawed, write
from pyai_sessions.values.messages import Message

_CHARACTERS = 4
_MESSAGE = 4
_IMAGE = 1_000
_MEDIA = frozenset({"image", "image_url", "input_image", "input_audio", "file", "document"})

_ANSWERS = p.SYSTEM | {"assistant", "tool"}
"""The roles whose messages begin no turn."""

_KNOWN = ("user", "assistant", "system", "developer", "tool")

Group = list[Told]
"""Messages that stay together or go together: one, or an assistant's calls with their results."""


class Encoder(Protocol):
    """A tokenizer as tiktoken's ``Encoding`` is one."""

    def encode_ordinary(self, text: str, /) -> Sequence[int]:
        """Return the tokens of a text."""
        ...


CountTokens = Callable[[str], int] | Encoder


class Orphan(NamedTuple):
    """A tool's call without a result (*kind* ``"call"``), or a result without its call (``"result"``).

    Attributes:
        kind: Which of the two.
        message_id: The message that holds it.
        call_id: The call's id, where it has one.

    """

    kind: Literal["call", "result"]
    message_id: str
    call_id: str | None


# Calls and results ------------------------------------------------------------------------------------------------


def paired(messages: Iterable[Told], *, tell: bool = False) -> tuple[list[Group], list[Orphan]]:
    """Return messages in groups, without orphans, and the orphans. Costs one pass.

    A result that comes later than right after its call, as another writer's message got in between, moves up to it. A
    call that has no result is taken out of its message, and a message that has nothing else goes; with *tell* it stays,
    and a result follows which says that it was interrupted.
    """
    groups: list[Group] = []
    calls = _Waiting()
    orphans: list[Orphan] = []
    for each in messages:
        message = each.message
        if message.role == "tool":
            found = calls.answer(message)
            if found is None:
                orphans.append(Orphan("result", message.message_id, message.tool_call_id))
            else:
                call_id, n = found
                answer = (
                    each
                    if call_id == message.tool_call_id
                    else replace(each, message=altered(message, tool_call_id=call_id))
                )
                groups[n].append(answer)
            continue
        if message.tool_calls and message.role == "assistant":
            calls.add(each, len(groups))
        groups.append([each])
    whole: list[Group] = []
    for group in groups:
        if group[0].message.tool_calls:
            whole += _answered(group, orphans, tell=tell)
        else:
            whole.append(group)
    return whole, orphans


class _Waiting:
    """The calls that have no result yet, each with the number of its group."""

    def __init__(self) -> None:
        self._by_id: dict[str, int] = {}
        self._unnamed: dict[str, tuple[int, str]] = {}

    def add(self, caller: Told, group: int) -> None:
        """Take the calls of a message."""
        for each in caller.message.tool_calls or ():
            found = call_id(each)
            if found in caller.unnamed:
                self._unnamed[found] = group, function_name(each)
            elif found:
                self._by_id[found] = group

    def answer(self, result: Message) -> tuple[str, int] | None:
        """Return the id of the call that a result is for, and its group; None if none waits for it."""
        found = result.tool_call_id
        if found is not None:
            group = self._by_id.pop(found, None)
            return None if group is None else (found, group)
        for key, (group, name) in self._unnamed.items():
            if result.name is None or result.name == name:
                del self._unnamed[key]
                return key, group
        return None


def _answered(group: Group, orphans: list[Orphan], *, tell: bool) -> list[Group]:
    """Return a group whose calls all have results: without those that have none, or with one that says so."""
    caller, *results = group
    left = {each.message.tool_call_id for each in results}
    known: set[str | None] = {None}
    kept: list[int] = []
    for n, call in enumerate(caller.message.tool_calls or ()):
        found = call_id(call)
        if found in left:
            left.discard(found)  # an id that is given twice was answered once
            kept.append(n)
        else:
            orphans.append(Orphan("call", caller.message.message_id, None if found in caller.unnamed else found))
            if tell and found not in known and caller.message.role == "assistant":
                kept.append(n)
                results.append(interrupted(caller, n))
        known.add(found)
    shown = caller.with_calls(kept)
    return [] if shown is None else [[shown, *results]]


def waiting(messages: Sequence[Message]) -> dict[str, str]:
    """Return the names of the functions that the last calls are for, by the ids of those that wait for a result."""
    answered: set[str | None] = set()
    for message in reversed(messages):
        for each in reversed(told(message)):
            if each.message.tool_calls:
                calls = {call_id(call): call for call in each.message.tool_calls}
                return {key: function_name(call) for key, call in calls.items() if key and key not in answered}
            answered.add(each.message.tool_call_id)
    return {}


def function_name(call: Any) -> str:
    """Return the name of the function that a tool's call is for, empty where it has none."""
    function = call.get("function") or call.get("custom")
    name = function.get("name") if is_mapping(function) else None
    return name if isinstance(name, str) else ""


def call_id(call: object) -> str | None:
    """Return the id of a tool's call, or None where it has none: it can then not be answered."""
    found = call.get("id") if is_mapping(call) else None
    return found if isinstance(found, str) and found else None


# Windows ----------------------------------------------------------------------------------------------------------


@dataclass
class Budget:
    """How many messages and tokens a window may still have (None: any number).

    *count* counts the tokens of a text; *seen* are the stored messages of which a part was taken.
    """

    messages: int | None
    tokens: int | None
    count: Callable[[str], int]
    seen: frozenset[str] = field(default_factory=frozenset[str])

    def take(self, group: Group) -> bool:
        """Take a group in, if it fits."""
        messages, tokens, seen = self.messages, self.tokens, self.seen
        if messages is not None and len(group) == 1 and group[0].source and group[0].blocks is None:
            messages -= 1
            if messages < 0:
                return False
        elif messages is not None:
            parts = {each.message.message_id for each in group if each.source and each.blocks is not None}
            messages -= sum(each.source is None or each.blocks is None for each in group) + len(parts - seen)
            if messages < 0:
                return False
            seen = seen | parts if parts else seen
        if tokens is not None:
            tokens -= self.size(group)
            if tokens < 0:
                return False
        self.messages, self.tokens, self.seen = messages, tokens, seen
        return True

    def copy(self) -> Budget:
        """Return another one that has as much left."""
        return Budget(self.messages, self.tokens, self.count, self.seen)

    def size(self, group: Group) -> int:
        """Return how many tokens a group takes."""
        return sum(tokens_of(each.message, self.count) for each in group)


def begins_turn(each: Told) -> bool:
    """Return whether a turn begins with a message: a user's, or one that models are told as a user's."""
    return each.message.role not in _ANSWERS


def begins(message: Message) -> bool:
    """Return whether a turn begins with a stored message, or with a part of it."""
    return any(map(begins_turn, told(message)))


def is_users(message: Message) -> bool:
    """Return whether a message is a user's, and not a tool's result alone."""
    return any(each.message.role == "user" for each in told(message))


def turn_at(log: Sequence[Message], index: int) -> int:
    """Return where the turn begins that the message in place *index* belongs to; 0 or less where it is the first.

    Where no message begins a turn, it is *index* itself, or the call of a tool before it whose result comes after.
    """
    places = (n for n in range(min(index, len(log) - 1), -1, -1) if begins(log[n]))
    found = next(places, None)
    if found is not None or any(map(begins, log)):
        return found or 0
    place = {each.message_id: n for n, each in enumerate(log)}
    groups, _ = paired(each for message in log for each in told(message))
    for caller, *results in reversed(groups):
        begin = place[caller.message.message_id]
        if begin < index <= max((place[each.message.message_id] for each in results), default=begin):
            index = begin
    return index


def newest(
    groups: Sequence[Group], budget: Budget, *, aligned: bool = True, question: Told | None = None
) -> list[Group] | None:
    """Return the longest window that fits: the newest turns. None where not even what begins the newest fits.

    A turn goes from a user's message to the next; where not *aligned*, all is one turn, which no message begins. Of
    the oldest turn that does not fit whole, the message that begins it stays, with as many of its newest groups as fit.
    *question* begins the first turn, if the first group does not.
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
        trial = budget.copy()
        kept: list[Group] = []
        if not all(map(trial.take, head)):
            break
        for group in reversed(steps):
            if not trial.take(group):
                break
            kept.append(group)
        if kept or (head and not (steps and chosen)):  # a question alone says nothing beside newer turns
            chosen.append([*head, *reversed(kept)])
            budget = trial
        if len(kept) < len(steps):
            break
    if not turns and question is not None and budget.take([question]):
        chosen.append([[question]])
    return [group for turn in reversed(chosen) for group in turn] if chosen or not (turns or question) else None


class Choice(NamedTuple):
    """What `history` was asked for.

    Attributes:
        last: Of the newest so many messages alone; None: of all.
        roles: Of messages of these roles alone; None: of all.
        speakers: What roles mean.
        tell: Whether calls that were interrupted are told of.

    """

    last: int | None
    roles: frozenset[str] | None
    speakers: Mapping[str, str]
    tell: bool

    @classmethod
    def of(
        cls, *, last: int | None, roles: Iterable[str] | None, speakers: Mapping[str, str] | None, interrupted: str
    ) -> Choice:
        """Return a choice, its parts checked."""
        check_choice(interrupted, "interrupted", "tell", "leave out")
        if speakers is not None and not is_mapping(speakers):
            problem = f"is {kind_of(speakers)}; it is a dict from roles to what they mean: {{'human': 'user'}}"
            raise InvalidValueError("speakers", problem)
        for role, meant in (speakers or {}).items():
            check_text(role, "speakers")
            check_choice(meant, f"speakers[{shown(role)}]", *_KNOWN, "told")
        given = [roles] if isinstance(roles, str) else roles
        wanted = (
            None if given is None else frozenset(check_text(e, "roles") for e in check_items(given, "roles", "roles"))
        )
        return cls(last, wanted, dict(speakers or {}), interrupted == "tell")

    def check_roles(self, says: Iterable[Told], api: str) -> None:
        """Raise if there is a message of a role that an API does not know."""
        roles = dict.fromkeys(each.message.role for each in says if each.message.role not in _KNOWN)
        unknown = [each for each in roles if each not in self.speakers]
        if unknown:
            example = ", ".join(f"{each!r}: 'assistant'" for each in unknown)
            accepted = f"{', '.join(map(repr, _KNOWN))}, or 'told', as a user's message that begins with [{unknown[0]}]"
            problem = f"is {' and '.join(map(repr, unknown))} in some messages, which the API of {api!r} does not know"
            raise InvalidValueError("role", f"{problem}; say what it means: speakers={{{example}}}. It is {accepted}")

    def told(self, messages: Iterable[Message]) -> list[Told]:
        """Return what messages say, of the wanted roles."""
        speakers = self.speakers
        every = [each for message in messages for each in told(message, speakers)]
        if self.roles is None:
            return every
        meant, own = self.meant, {each for each in self.roles if p.role_of(each) is None}
        return [each for each in every if each.message.role in meant or (each.source and each.source.role in own)]

    @property
    def meant(self) -> frozenset[str]:
        """The wanted roles, by the names that APIs have for them."""
        return frozenset(p.role_of(each) or each for each in self.roles or ())

    @property
    def is_aligned(self) -> bool:
        """Whether messages that begin turns are wanted."""
        return self.roles is None or not self.meant <= _ANSWERS


def window(
    body: Sequence[Message], older: Iterable[Message] | None, choice: Choice, budget: Budget
) -> list[Group] | None:
    """Return the longest window of *body* that fits, as `newest` does; None where it has results without calls alone.

    *older* are the messages before it, the newest first: the question of the first turn may be one of them. None: they
    are not asked for; the window then begins with a question of its own, if there is one.

    Raises:
        InvalidValueError: What begins the newest turn takes more tokens than there are.

    """
    aligned, last = choice.is_aligned, choice.last
    if choice.roles is None and last is not None:
        start = max(0, len(body) - last)
        older = older and chain(reversed(body[:start]), older)
        body = body[start:]
    says = choice.told(body)
    if choice.roles is not None and last is not None:
        ids = dict.fromkeys(each.message.message_id for each in reversed(says))
        kept = set(islice(ids, last))
        older = older and chain((each for each in reversed(body) if each.message_id not in kept), older)
        says = [each for each in says if each.message.message_id in kept]
    if not says:
        return []
    budget.messages = last
    groups, _ = paired(says, tell=choice.tell and (choice.roles is None or "tool" in choice.meant))
    question = None
    if aligned and not begins_turn(says[0]):
        if older is None:
            groups = groups[next((n for n, each in enumerate(groups) if begins_turn(each[0])), 0) :]
        else:
            every = (each for message in older for each in reversed(choice.told([message])))
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


def as_added(says: Sequence[Told]) -> Iterator[dict[str, Any]]:
    """Yield messages as they were added, without what was taken out of them."""
    n = 0
    while n < len(says):
        each = says[n]
        n += 1
        given = each.source or each.given or each.message
        content, calls = given.content, given.tool_calls
        if each.source is not None and (each.blocks is not None or each.kept is not None):
            parts = [each]
            while n < len(says) and says[n].source is each.source:
                parts.append(says[n])
                n += 1
            content, calls = joined(parts)
        made = {"role": thawed(given.role), "content": thawed(content)}
        if given.name is not None:
            made["name"] = thawed(given.name)
        if calls is not None:
            made["tool_calls"] = thawed(calls)
        if given.tool_call_id is not None:
            made["tool_call_id"] = thawed(given.tool_call_id)
        yield made


# Tokens -----------------------------------------------------------------------------------------------------------


def counter(count_tokens: CountTokens | None) -> Callable[[str], int]:
    """Return what counts the tokens of a text: the estimate by default, a callable, or an encoder as tiktoken's."""
    if count_tokens is None:
        return estimate
    encode = getattr(count_tokens, "encode_ordinary", None)
    if encode is not None:
        return lambda text: len(encode(text))
    if not callable(count_tokens):
        problem = f"is {kind_of(count_tokens)}; it is a callable from text to a number, or a tiktoken encoding"
        raise InvalidValueError("count_tokens", problem)
    count: Callable[[str], int] = count_tokens

    def checked(text: str) -> int:
        tokens = count(text)
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
            raise InvalidValueError("count_tokens", f"returned {tokens!r}; it returns a number of tokens, 0 or more")
        return tokens

    return checked


def estimate(text: str) -> int:
    """Return about how many tokens a text has: one for 4 ASCII characters, one for each other character.

    Encoders of today's models take fewer for most languages: the estimate errs to the safe side.
    """
    ascii_ = len(text) if text.isascii() else sum(map(str.isascii, text))
    return -(-ascii_ // _CHARACTERS) + len(text) - ascii_


def tokens_of(message: Message, count: Callable[[str], int]) -> int:
    """Return the tokens of a message: its texts and calls, 4 for its role, and 1,000 for an image or a file."""
    tokens = _MESSAGE + sum(_tokens_of_part(part, count) for part in _parts(message.content))
    if message.name is not None:
        tokens += count(message.name)
    if message.tool_calls:
        tokens += count(_text(message.tool_calls))
    return tokens


def _parts(content: object) -> Iterator[object]:
    if is_array(content):
        yield from content
    elif content is not None:
        yield content


def _tokens_of_part(part: object, count: Callable[[str], int]) -> int:
    if isinstance(part, str):
        return count(part)
    if is_mapping(part):
        if part.get("type") in _MEDIA:
            return _IMAGE
        text = part.get("text")
        if part.get("type") == "text" and isinstance(text, str):
            return count(text)
    return count(_text(part))


def _text(value: object) -> str:
    return write(value).decode()
