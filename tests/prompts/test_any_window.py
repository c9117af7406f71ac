"""Tests of windows of any conversation, in any API's shape and loaded in any way, against an exhaustive search.

A conversation is generated as events, each of one or more facts: who says what, a tool's call, a tool's result. It is
stored in the shape of one API or another. The oracle knows the facts alone.
"""

import json
from contextlib import suppress
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, Message, Session, SessionError, SessionManager, SessionStateError
from pyai_sessions.prompts.tokens import tokens_of
from tests.prompts.judges import FORMATS, judge

SHAPES = ["openai", "anthropic", "bedrock", "gemini", "responses", "langchain", "ollama", "vercel"]
ALIASES = {
    "user": ["user", "human", "Human", "USER"],
    "assistant": ["assistant", "ai", "model", "bot", "AI"],
    "system": ["system", "developer", "System"],
    "other": ["critic", "narrator"],
}
SPEAKERS = {"critic": "told", "narrator": "told"}


class Fact(NamedTuple):
    """A statement of a message: *kind* is user, assistant, system, other, call or result; *what* a text or an id."""

    kind: str
    what: str


class Event(NamedTuple):
    """A message as it is stored."""

    role: str
    facts: tuple[Fact, ...]


# Any conversation -------------------------------------------------------------------------------------------------

IDS = st.sampled_from(["c1", "c2", "c3"])


def say(kind):
    words = st.text("XY", min_size=1, max_size=40)
    return st.builds(lambda role, text: [Event(role, (Fact(kind, text),))], st.sampled_from(ALIASES[kind]), words)


def ask(ids, text=None):
    words = (Fact("assistant", text),) if text else ()
    return Event("assistant", (*words, *(Fact("call", each) for each in ids)))


def answer(*ids, text=None):
    """Return results and the user's words with them as one event, as APIs with blocks store them."""
    words = (Fact("user", text),) if text else ()
    return Event("user", (*(Fact("result", each) for each in ids), *words))


STEPS = st.one_of(
    say("user"),
    say("assistant"),
    say("system"),
    say("other"),
    st.lists(IDS, min_size=1, max_size=3, unique=True).map(lambda ids: [ask(ids), answer(*ids)]),
    st.lists(IDS, min_size=1, max_size=2, unique=True).map(lambda ids: [ask(ids, "XX"), answer(*reversed(ids))]),
    st.lists(IDS, min_size=1, max_size=2, unique=True).map(lambda ids: [ask(ids), answer(*ids, text="XXX")]),
    st.lists(IDS, min_size=1, max_size=2, unique=True).map(lambda ids: [ask(ids)]),
    IDS.map(lambda each: [answer(each)]),
    st.integers(2, 20).map(lambda n: [each for _ in range(n) for each in (ask(["c1"]), answer("c1"))]),
)
CONVERSATIONS = st.tuples(st.lists(say("system"), max_size=2), st.lists(STEPS, min_size=1, max_size=14)).map(
    lambda both: [each for step in (*both[0], *both[1]) for each in step]
)


# As an API stores it ----------------------------------------------------------------------------------------------


def block(fact, shape):
    """Return a fact as a content block."""
    kind, what = fact
    if kind == "call":
        return {
            "anthropic": {"type": "tool_use", "id": what, "name": "f", "input": {}},
            "bedrock": {"toolUse": {"toolUseId": what, "name": "f", "input": {}}},
            "gemini": {"functionCall": {"name": "f", "args": {}, "id": what}},
            "responses": {"type": "function_call", "call_id": what, "name": "f", "arguments": "{}"},
            "vercel": {"type": "tool-call", "toolCallId": what, "toolName": "f", "input": {}},
        }[shape]
    if kind == "result":
        return {
            "anthropic": {"type": "tool_result", "tool_use_id": what, "content": "21"},
            "bedrock": {"toolResult": {"toolUseId": what, "content": [{"text": "21"}], "status": "success"}},
            "gemini": {"functionResponse": {"name": "f", "id": what, "response": {"output": "21"}}},
            "responses": {"type": "function_call_output", "call_id": what, "output": "21"},
            "vercel": {"type": "tool-result", "toolCallId": what, "output": {"type": "text", "value": "21"}},
        }[shape]
    if shape in ("bedrock", "gemini"):
        return {"text": what}
    return {
        "type": ("output_text" if kind == "assistant" else "input_text") if shape == "responses" else "text",
        "text": what,
    }


def tool_call(call_id, shape):
    if shape == "langchain":
        return {"name": "f", "args": {}, "id": call_id, "type": "tool_call"}
    if shape == "ollama":
        return {"id": call_id, "function": {"name": "f", "arguments": {}}}
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def store(session, said, shape):
    """Add an event to a session in a shape."""
    kinds = [each.kind for each in said.facts]
    words = [each.what for each in said.facts if each.kind not in ("call", "result")]
    if not {"call", "result"} & set(kinds):
        content = words[0] if shape in ("openai", "langchain", "ollama") else [block(said.facts[0], shape)]
        session.add_message(said.role, content)
    elif shape in ("openai", "langchain", "ollama"):
        calls = [tool_call(each.what, shape) for each in said.facts if each.kind == "call"]
        if calls:
            session.add_message("assistant", words[0] if words else "", tool_calls=calls)
            return
        for each in said.facts:
            if each.kind == "result":
                session.add_message("tool", "21", tool_call_id=each.what)
        if words:
            session.add_message("user", words[0])
    else:
        session.add_message(said.role, [block(each, shape) for each in said.facts])


def split(events, shape):
    """Return the events as the stored messages that a shape makes of them."""
    if shape not in ("openai", "langchain", "ollama"):
        return events
    made = []
    for each in events:
        results = [Event("tool", (fact,)) for fact in each.facts if fact.kind == "result"]
        rest = tuple(fact for fact in each.facts if fact.kind != "result")
        made += [*results, *([Event(each.role, rest)] if rest else [])]
    return made


# The oracle -------------------------------------------------------------------------------------------------------


class Unit(NamedTuple):
    """Facts that stay together: a message's text, or calls with their results."""

    facts: tuple[tuple[int, Fact], ...]
    begins: bool


def units_of(events, first, *, tell):
    """Return the units of events numbered from *first*. A result belongs to the latest call of its id."""
    messages = []
    for n, each in enumerate(events, first):
        messages += [(n, [fact]) for fact in each.facts if fact.kind == "result"]
        rest = [fact for fact in each.facts if fact.kind != "result"]
        messages += [(n, rest)] if rest else []
    answers = {}
    for place, (n, facts) in enumerate(messages):
        if facts[0].kind == "result":
            before = [i for i in range(place) if Fact("call", facts[0].what) in messages[i][1]]
            if before and (before[-1], facts[0].what) not in answers:
                answers[before[-1], facts[0].what] = n
    units = []
    for place, (n, facts) in enumerate(messages):
        kept, results = [], []
        for fact in facts:
            found = answers.get((place, fact.what)) if fact.kind == "call" else None
            if fact.kind == "result" or (fact.kind == "call" and found is None and not tell):
                continue
            kept.append((n, fact))
            if fact.kind == "call":
                results.append(
                    (n if found is None else found, Fact("result" if found is not None else "lost", fact.what))
                )
        real = [each for each in results if each[1].kind == "result"]
        real.sort(key=lambda each: [i for i, m in enumerate(messages) if m[0] == each[0] and each[1] in m[1]])
        lost = [each for each in results if each[1].kind == "lost"]
        if kept:
            units.append(Unit((*kept, *real, *lost), facts[0].kind in ("user", "other")))
    return units


def size(units):
    """Return the number of messages of units: stored ones, and results that report an interrupted call."""
    stored = {n for unit in units for n, fact in unit.facts if fact.kind != "lost"}
    return len(stored) + sum(fact.kind == "lost" for unit in units for _, fact in unit.facts)


def count(text):
    """Count the tokens of a text, except those of a tool's call or result, which APIs write differently."""
    return text.count("X") + text.count("Y")


LOST = "[interrupted: this call has no result, and whether it took effect is not known]"


def tokens(units):
    """Return the tokens of units as Chat Completions messages."""
    total = 0
    for unit in units:
        calls = [tool_call(fact.what, "openai") for _, fact in unit.facts if fact.kind == "call"]
        words = [fact.what for _, fact in unit.facts if fact.kind not in ("call", "result", "lost")]
        total += tokens_of(Message("assistant", words[0] if words else None, tool_calls=calls or None), count)
        for _, fact in unit.facts:
            if fact.kind in ("result", "lost"):
                total += tokens_of(Message("tool", "21" if fact.kind == "result" else LOST), count)
    return total


def longest(events, last, max_tokens, *, tell=True):
    """Return the facts of the longest window that fits, by trying each start.

    Where the place is within a turn, what begins the turn comes first. None: there is no window.
    """
    leading = next((n for n, each in enumerate(events) if each.facts[0].kind != "system"), len(events))
    first = units_of(events[:leading], 0, tell=tell)
    start = leading if last is None else max(leading, len(events) - last)
    units = units_of(events[start:], start, tell=tell)
    if max_tokens is not None and tokens(first) > max_tokens:
        return None
    if start == len(events):
        return [fact for unit in first for _, fact in unit.facts]
    asked = [
        Unit(((n, fact),), begins=True)
        for n in range(leading, start)
        for fact in events[n].facts
        if fact.kind in ("user", "other")
    ]
    for place in range(len(units) + 1):
        window = units[place:]
        if not (window and window[0].begins):
            before = [*asked, *(Unit(each.facts[:1], begins=True) for each in units[:place] if each.begins)]
            if not window and not before:
                continue
            window = [*before[-1:], *window]
        if (last is None or size(window) <= last) and (max_tokens is None or tokens([*first, *window]) <= max_tokens):
            return [fact for unit in (*first, *window) for _, fact in unit.facts]
    return None


def facts_of(prompt):
    """Return the facts of a prompt of Chat Completions."""
    found = []
    for item in prompt:
        content = item["content"]
        text = content if isinstance(content, str) else "".join(each["text"] for each in content or ())
        if item["role"] == "tool":
            found.append(Fact("lost" if text == LOST else "result", item["tool_call_id"]))
        elif text:
            told = next((each for each in SPEAKERS if text.startswith(f"[{each}]")), None)
            role = {"developer": "system"}.get(item["role"], item["role"])
            found.append(Fact("other", text[len(told) + 2 :]) if told else Fact(role, text))
        found += [Fact("call", each["id"]) for each in item.get("tool_calls", ())]
    return found


# The laws ---------------------------------------------------------------------------------------------------------


def stored(events, shape):
    session = Session()
    for each in events:
        store(session, each, shape)
    return session


MANY = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
LIMITS = {"last": st.none() | st.integers(1, 12), "max_tokens": st.none() | st.integers(0, 120)}


ASKED = [Event("user", (Fact("user", "X"),)), ask(["c1"]), answer("c1", text="Y")]


@MANY
@given(CONVERSATIONS, st.sampled_from(SHAPES), st.booleans(), *LIMITS.values())
@example(ASKED, "anthropic", True, 3, None)  # a message that is a result and a question counts once
def test_a_window_is_the_longest_that_fits_whatever_the_shape(events, shape, tell, last, max_tokens):
    """A window by messages or tokens is the longest that fits, in every shape, or raises our own error."""
    session, events = stored(events, shape), split(events, shape)
    expected = longest(events, last, max_tokens, tell=tell)
    how = {
        "last": last,
        "max_tokens": max_tokens,
        "count_tokens": count,
        "interrupted": "tell" if tell else "leave out",
    }
    if expected is None:
        with pytest.raises((InvalidValueError, SessionStateError)):
            session.history(**how, format="openai", speakers=SPEAKERS)
        return

    window = session.history(**how, format="openai", speakers=SPEAKERS)

    assert facts_of(window) == expected
    assert window
    judge(window, "openai")


@MANY
@given(CONVERSATIONS, st.sampled_from(SHAPES), st.sampled_from(FORMATS), *LIMITS.values())
@example([ask(["c1"])], "gemini", "gemini", None, None)  # a call with an id of Gemini's is answered by that
def test_a_window_is_one_that_its_api_takes(events, shape, format_, last, max_tokens):
    """A window in each format is valid, from each shape, and begins with a user if the API needs that."""
    session = stored(events, shape)
    try:
        window = session.history(
            last=last, max_tokens=max_tokens, count_tokens=count, format=format_, speakers=SPEAKERS
        )
    except (InvalidValueError, SessionStateError):
        assert longest(split(events, shape), last, max_tokens) is None
        return

    assert window or window.system is not None  # all that is there instructs
    if window:
        judge(window, format_)
    other = Session()
    other.add_messages(window, format=format_)
    assert other.history(format=format_) == window


# Loaded in part ---------------------------------------------------------------------------------------------------


def outcome(session, **how):
    """Return the window, or the kind of the error."""
    try:
        return session.history(**how, count_tokens=count, speakers=SPEAKERS)
    except SessionError as err:
        return type(err)


LENGTHS = st.integers(1, 70)
WAYS = {
    "get": lambda manager, last: manager.get_session("s", last=last),
    "fork": lambda manager, last: manager.fork("s", last=last),
    "switch": lambda manager, last: manager.switch("s", manager.get_session("s").branches[0], last=last),
    "completed": lambda manager, last: completed(manager, manager.get_session("s", last=last)),
}


def completed(manager, part):
    manager.load_history(part)
    return part


def saved(events, shape, every, keep_last):
    """Return the manager of a session that was saved in steps, summed up, and continued elsewhere."""
    manager = SessionManager()
    session = manager.create_session(session_id="s")
    for n, each in enumerate(events):
        store(session, each, shape)
        if n % every == 0:
            manager.save(session)
    if keep_last is not None:
        with suppress(SessionStateError):
            session.compact("They talked.", keep_last=keep_last)
    manager.save(session)
    session.rewind(session.messages[0].message_id)
    session.add_message("user", "another way")
    manager.save(session)
    return manager, manager.switch("s", session.branches[0], last=0)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.tuples(CONVERSATIONS, CONVERSATIONS, CONVERSATIONS).map(lambda parts: [*parts[0], *parts[1], *parts[2]]),
    st.fixed_dictionaries(
        {"shape": st.sampled_from(SHAPES), "every": st.sampled_from([1, 7, 40]), "keep_last": st.none() | LENGTHS}
    ),
    st.sampled_from(list(WAYS)),
    st.tuples(LENGTHS, LENGTHS),
    st.fixed_dictionaries(
        {"format": st.none() | st.sampled_from(FORMATS), "max_tokens": st.none() | st.integers(0, 300)}
    ),
)
def test_a_window_is_the_same_however_the_session_was_loaded(events, how, way, lasts, limits):
    """A window is the same in a partly loaded session, a fork, after a switch, and before a new question."""
    assume(len(events) > 1)
    manager, _ = saved(events, **how)
    loaded, last = lasts
    whole = manager.get_session("s") if way != "switch" else manager.switch("s", manager.get_session("s").branches[0])
    if way == "switch":
        manager.switch("s", manager.get_session("s").branches[0], last=0)
    part = WAYS[way](manager, loaded)

    for question in (None, "XYX"):
        if question:
            part.add_message("user", question)
            whole.add_message("user", question)
            loaded += 1
        least = min(last, loaded)
        assert outcome(part, last=least, **limits) == outcome(whole, last=least, **limits)
        if way != "completed" and loaded < whole.message_count:
            assert outcome(part, **limits) == outcome(whole, last=loaded, **limits)


@pytest.mark.parametrize("keep_last", [None, 60])
@pytest.mark.parametrize("steps", [40, 400])
def test_a_part_of_a_long_turn_has_its_question(steps, keep_last):
    """A partly loaded turn has its question, however far back it is."""
    events = [ask(["c1"]), answer("c1")] * steps
    events = [Event("user", (Fact("user", "first"),)), Event("user", (Fact("user", "look"),)), *events]
    manager, _ = saved(events, "openai", 30, keep_last)

    for last in (1, 10, 40, 50, 79):
        window = manager.get_session("s", last=last).history()

        assert [each["content"] for each in window if each["role"] == "user"] == ["look"]
        said = [each for each in window if each["role"] != "system"]
        assert len(said) == max(1, 2 * ((last - 1) // 2) + 1)


class Counting(dict):
    """A mapping that counts what is read from it."""

    def __init__(self):
        super().__init__()
        self.read = 0

    def __getitem__(self, key):
        self.read += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("by", ["save", "append"])
def test_a_part_of_a_turn_costs_a_page_more_however_long_the_turn_is(by):
    """Loading a part of a long turn reads one more page, which the head names."""
    costs = []
    for steps in (100, 1000):
        mapping = Counting()
        manager = SessionManager(mapping)
        session = manager.create_session(session_id="s")
        for each in [{"role": "user", "content": "go"}, *[{"role": "assistant", "content": "on"}] * steps]:
            if by == "append":
                manager.append("s", each)
            else:
                session.add_message(**each)
                manager.save(session)
        manager.append("s", {"role": "user", "content": "and?"}, {"role": "assistant", "content": "well"})
        mapping.read = 0

        part = manager.get_session("s", last=40)

        costs.append(mapping.read)
        contents = [each["content"] for each in part.history()]
        assert contents == ["go", *["on"] * 37, "and?", "well"]
    assert max(costs) <= 5


REWRITES = {
    "turn": lambda session, _: session.add_message("user", "and?"),
    "steps": lambda session, n: [session.add_message("assistant", "on") for _ in range(20 * n)],
    "rewind": lambda session, n: session.messages and session.rewind(session.messages[len(session.messages) * n // 6]),
    "pop": lambda session, _: session.messages and session.pop(),
    "remove": lambda session, n: (
        session.messages and session.remove_message(session.messages[(len(session.messages) - 1) * n // 6])
    ),
    "edit": lambda session, n: (
        session.messages and session.replace_message(session.messages[len(session.messages) * n // 6], role="user")
    ),
    "clear": lambda session, _: session.clear_messages(),
}


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["steps", *REWRITES]), st.integers(1, 5), st.sampled_from([0, 10, 40])), max_size=8
    )
)
@example([("turn", 1, 0), ("steps", 5, 0), ("steps", 5, 0), ("rewind", 2, 0), ("turn", 1, 40)])
@example([("turn", 1, 0), ("steps", 5, 0), ("turn", 1, 0), ("steps", 5, 0), ("rewind", 1, 0), ("steps", 4, 10)])
@example([("turn", 1, 0), ("steps", 5, 0), ("rewind", 2, 0), ("turn", 1, 0), ("steps", 5, 40)])
@example([("steps", 4, 0), ("edit", 1, 0)])
def test_a_head_names_where_no_turn_begins_however_its_pages_were_rewritten(rewrites):
    """Of the pages that are there alone, so a part of the session gives what the whole gives.

    And of all of them, until one message is changed: where a turn begins in its page now, what is said of the pages
    around it is forgotten, as the number of their first message is not known.
    """
    mapping, is_whole = {}, True
    manager = SessionManager(mapping)
    session = manager.create_session(session_id="s")
    for name, n, last in rewrites:
        REWRITES[name](session, n)
        manager.save(session)

        head = json.loads(mapping["session/s"])
        runs = [(run["generation"], run.get("start", 0), run["pages"]) for run in head["sealed"]]
        keys = [f"messages/s/{generation}/{start + n}" for generation, start, pages in runs for n in range(pages)]
        pages = [json.loads(mapping[key]) for key in keys]
        without = [n for n, page in enumerate(pages) if all(each["role"] != "user" for each in page)]
        gaps = head.get("gaps", [])
        named = [page for first, _, end in gaps for page in range(first, end)]
        is_whole = is_whole and name not in ("edit", "remove")
        assert named == without if is_whole else set(named) <= set(without)
        assert all(first < end for first, _, end in gaps)
        assert [message for _, message, _ in gaps] == [sum(map(len, pages[:first])) for first, _, _ in gaps]
        whole, part = manager.get_session("s"), manager.get_session("s", last=last)
        if whole.messages:
            assert part.history(last=last) == whole.history(last=last)


def test_a_question_that_was_summed_up_is_not_told_again():
    """A summary within a long turn stands for the question, also in a part."""
    manager = SessionManager()
    session = manager.create_session(session_id="s")
    session.add_message("user", "go")
    for n in range(300):
        session.add_message("assistant", "on")
        if n == 200:
            session.compact("They went on.")
    manager.save(session)

    window = manager.get_session("s", last=40).history()

    assert window == manager.get_session("s").history(last=40)
    assert [each["content"] for each in window] == ["They went on.", *["on"] * 40]
