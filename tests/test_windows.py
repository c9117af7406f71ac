"""Windows: what of a conversation a model is given."""

from datetime import timedelta

import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, Message, Session, SessionManager, SessionStateError
from pyai_sessions.testing import NOON, StoppedClock
from pyai_sessions.windows import Orphan, estimate, paired, tokens_of
from tests.prompt_rules import check_anthropic, check_gemini, check_openai

CHECKS = {None: check_openai, "openai": check_openai, "anthropic": check_anthropic, "gemini": check_gemini}


def call(name):
    return {"id": name, "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}


def calls(*names, content=None, **fields):
    return Message("assistant", content, tool_calls=[call(each) for each in names], **fields)


def result(name, content="21", **fields):
    return Message("tool", content, tool_call_id=name, **fields)


def said(window):
    """Return a window in short: u1 for a user's message, c for calls, r for results."""
    short = {"user": "u", "assistant": "a", "tool": "r", "system": "s", "developer": "d"}
    return " ".join("c" if each.get("tool_calls") else short[each["role"]] for each in window)


# Any conversation -------------------------------------------------------------------------------------------------

WORDS = st.text("ab ü\n", min_size=1, max_size=30).filter(str.strip)
IDS = st.sampled_from(["c1", "c2", "c3", ""])
PARTS = st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, WORDS)
    | st.just({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}),
    min_size=1,
    max_size=2,
)
MESSAGES = st.one_of(
    st.builds(Message, st.sampled_from(["user", "assistant", "system", "developer"]), WORDS),
    st.builds(Message, st.just("user"), PARTS),
    st.builds(
        lambda names, content: calls(*names, content=content), st.lists(IDS, min_size=1, max_size=3), st.none() | WORDS
    ),
    st.builds(result, IDS, WORDS),
)
TURNS = st.one_of(
    st.builds(lambda text: [Message("user", text)], WORDS),
    st.builds(lambda text: [Message("assistant", text)], WORDS),
    st.permutations(["c1", "c2", "c3"]).flatmap(
        lambda names: st.just([calls(*sorted(names)), *(result(each) for each in names)])
    ),
)
CONVERSATIONS = st.tuples(
    st.lists(st.builds(Message, st.sampled_from(["system", "developer"]), WORDS), max_size=2),
    st.lists(TURNS | MESSAGES.map(lambda each: [each]), max_size=12),
).map(lambda both: [*both[0], *(each for turn in both[1] for each in turn)])


def anew(messages):
    """Return a session with copies of messages, each with an id of its own."""
    return Session(
        messages=[
            Message(each.role, each.content, tool_calls=each.tool_calls, tool_call_id=each.tool_call_id)
            for each in messages
        ]
    )


def longest(session, last, max_tokens):
    """Return the longest window by trying all: the groups from each user's message on, then the last one and fewer."""
    log = list(session.messages)
    instructions = 0
    while instructions < len(log) and log[instructions].role in ("system", "developer"):
        instructions += 1
    first, body = log[:instructions], log[instructions:]
    groups, _ = paired(body)
    asked = [n for n, group in enumerate(groups) if group[0].role == "user"]
    candidates = [groups, *(groups[n:] for n in asked)]
    if asked:
        candidates += [[groups[asked[-1]], *groups[n:]] for n in range(asked[-1] + 1, len(groups) + 1)]
    for each in candidates:
        window = [message for group in each for message in group]
        tokens = sum(tokens_of(message, estimate) for message in [*first, *window])
        if (last is None or len(window) <= last) and (max_tokens is None or tokens <= max_tokens):
            return first + window
    return first


@given(CONVERSATIONS, st.none() | st.integers(0, 12), st.none() | st.integers(0, 200))
@settings(max_examples=300, deadline=None)
@example([calls("c1"), Message("user", "between"), result("c1")], None, None)
@example([Message("user", "a"), calls("c1", "c1"), result("c1"), result("c1")], None, None)
def test_any_window_is_valid_and_the_longest_that_fits(messages, last, max_tokens):
    """By number and by tokens, of any conversation, orphans and interrupted calls included."""
    session = anew(messages)
    instructions = sum(tokens_of(Message(**each), estimate) for each in session.history(last=0))
    if max_tokens is not None and instructions > max_tokens:
        with pytest.raises(InvalidValueError, match=r"^max_tokens is"):
            session.history(last=last, max_tokens=max_tokens)
        return
    window = session.history(last=last, max_tokens=max_tokens)

    expected = longest(session, last, max_tokens)
    assert [each["content"] for each in window] == [each.content for each in expected]
    if expected and len(expected) < len(messages) and not starts_otherwise(window):
        check_openai(window)


def starts_otherwise(window):
    """Return whether a conversation that was not cut begins with another's words than a user's."""
    roles = [each["role"] for each in window if each["role"] not in ("system", "developer")]
    return bool(roles) and roles[0] != "user"


@given(CONVERSATIONS, st.sampled_from(["openai", "anthropic", "gemini"]), st.integers(0, 12), st.integers(0, 300))
@settings(max_examples=300, deadline=None)
def test_any_window_is_accepted_by_each_format(messages, form, last, max_tokens):
    """Whatever was cut, and wherever."""
    session = anew(messages)
    try:
        window = session.history(last=last, max_tokens=max_tokens, format=form)
    except InvalidValueError:
        return

    if window:  # where nothing fits, there is none
        CHECKS[form](window)


@given(CONVERSATIONS, st.integers(0, 12))
@settings(max_examples=100, deadline=None)
def test_a_part_of_a_session_gives_what_the_whole_gives(messages, last):
    """A window reaches no further back than what is loaded; what fits into that is the same."""
    manager = SessionManager()
    whole = manager.create_session(session_id="s")
    for n in range(60):
        whole.add_message("user", f"before {n}")
    for each in anew(messages).messages:
        if each.role not in ("system", "developer"):
            whole.add_message(each.role, each.content, tool_calls=each.tool_calls, tool_call_id=each.tool_call_id)
    manager.save(whole)
    part = manager.get_session("s", last=len(messages) + 40)

    assert part.history(last=last) == whole.history(last=last)


# Calls and results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "window", "orphans"),
    [
        ([calls("a"), result("a")], "c r", []),
        ([calls("a", "b"), result("b"), result("a")], "c r r", []),
        ([calls("a")], "", [("call", "a")]),
        ([calls("a", content="Let me see.")], "a", [("call", "a")]),
        ([calls("a", "b"), result("b")], "c r", [("call", "a")]),
        ([result("a")], "", [("result", "a")]),
        ([calls("a"), result("a"), result("a")], "c r", [("result", "a")]),
        ([calls("a"), Message("user", "and?"), result("a")], "c r u", []),
        ([calls("a"), calls("a"), result("a")], "c r", [("call", "a")]),
        ([calls("a"), result("a"), calls("a"), result("a")], "c r c r", []),
        ([calls("")], "", [("call", None)]),
        ([Message("assistant", "", tool_calls=["no call"])], "", [("call", None)]),
        ([Message("tool", "21")], "", [("result", None)]),
        ([Message("user", "?", tool_calls=[call("a")]), result("a")], "u", [("call", "a"), ("result", "a")]),
    ],
)
def test_calls_and_results_stay_together_or_go_together(messages, window, orphans):
    """Results move up to their call; what has no counterpart goes, and `repair` names it."""
    session = Session(messages=messages)

    assert said(session.history()) == window
    assert sorted((kind, name) for kind, _, name in session.repair()) == sorted(orphans)


def test_repair_writes_what_history_shows():
    """Messages that held nothing but orphans are removed, others keep what is left of them; a second one finds none."""
    session = Session(
        messages=[
            Message("user", "Weather?", message_id="m0"),
            calls("a", "b", content="Two cities.", message_id="m1", metadata={"k": 1}),
            result("a", message_id="m2"),
            calls("c", message_id="m3"),
            result("d", message_id="m4"),
        ]
    )
    before = session.history()

    found = session.repair()
    assert found == session.repair(write=True)

    assert set(found) == {Orphan("call", "m1", "b"), Orphan("call", "m3", "c"), Orphan("result", "m4", "d")}
    assert [each.message_id for each in session.messages] == ["m0", "m1", "m2"]
    assert session.messages[1].tool_calls == [call("a")]
    assert session.messages[1].metadata == {"k": 1}
    assert session.history() == before
    assert session.repair(write=True) == []


def test_repair_of_a_part_takes_a_result_for_no_orphan():
    """Its call may lie in what was not loaded; a call without a result is one, and its repair can be saved."""
    manager = SessionManager()
    session = manager.create_session(session_id="s")
    for n in range(60):
        session.add_message("user", f"before {n}")
    session.add_message("assistant", None, tool_calls=[call("old")])
    session.add_message("tool", "21", tool_call_id="old")
    for n in range(62):
        session.add_message("user", f"after {n}")
    session.add_message("assistant", None, tool_calls=[call("new")], message_id="asked")
    manager.save(session)
    for last in (5, 65, 70):
        part = manager.get_session("s", last=last)
        assert part.repair() == [Orphan("call", "asked", "new")]
        assert said(part.history(last=3)) == "u u u"

    part.repair(write=True)
    manager.save(part)

    stored = manager.get_session("s")
    assert stored.message_count == 124
    assert stored.repair() == []


# Limits -----------------------------------------------------------------------------------------------------------


def talk(*roles, **fields):
    """Return a session of messages in short: u, a, s, c (two calls with their results)."""
    session = Session(**fields)
    for n, role in enumerate(roles):
        if role == "c":
            session.add_message("assistant", None, tool_calls=[call(f"c{n}"), call(f"d{n}")])
            session.add_message("tool", "21", tool_call_id=f"c{n}")
            session.add_message("tool", "22", tool_call_id=f"d{n}")
        else:
            session.add_message({"u": "user", "a": "assistant", "s": "system"}[role], f"{role}{n} " * 10)
    return session


@pytest.mark.parametrize(
    ("roles", "last", "window"),
    [
        ("suauaua", 2, "s u a"),
        ("suauaua", 3, "s u a"),
        ("suauaua", 4, "s u a u a"),
        ("suauaua", 6, "s u a u a u a"),
        ("suauaua", 0, "s"),
        ("aua", 3, "a u a"),
        ("aua", 2, "u a"),
        ("uca", 5, "u c r r a"),
        ("uca", 4, "u a"),
        ("ucca", 7, "u c r r a"),
        ("uccu", 1, "u"),
        ("aaa", 2, ""),
        ("uu", 1, "u"),
    ],
)
def test_last_is_at_most_so_many_from_a_users_turn_on(roles, last, window):
    """The system's message is not counted; of a turn that is too long what began it stays, and its newest steps."""
    assert said(talk(*roles).history(last=last)) == window


def test_max_tokens_counts_what_instructs_the_model():
    """It stays in any case; where it alone is too long, that is an error."""
    session = talk(*"suaua")
    whole = sum(tokens_of(each, estimate) for each in session.messages)

    assert said(session.history(max_tokens=whole)) == "s u a u a"
    assert said(session.history(max_tokens=whole - 1)) == "s u a"
    assert said(session.history(max_tokens=tokens_of(session.messages[0], estimate))) == "s"
    with pytest.raises(InvalidValueError, match="max_tokens is 3; the messages that instruct the model take more"):
        session.history(max_tokens=3)


class Encoding:
    """An encoder as tiktoken's: a token for each word."""

    def encode_ordinary(self, text):
        return text.split()


@pytest.mark.parametrize("count", [lambda text: len(text.split()), Encoding()], ids=["callable", "encoder"])
def test_any_counter_of_tokens_will_do(count):
    """10 words and 4 for each message."""
    session = talk(*"uaua")

    assert said(session.history(max_tokens=28, count_tokens=count)) == "u a"
    assert said(session.history(max_tokens=27, count_tokens=count)) == "u"


@pytest.mark.parametrize("count", [7, lambda _: -1, lambda _: 1.5, lambda _: None, lambda _: True])
def test_what_counts_no_tokens_is_refused(count):
    """The error says what is accepted."""
    with pytest.raises(InvalidValueError, match=r"^count_tokens "):
        talk("u").history(max_tokens=100, count_tokens=count)


def test_tiktoken_s_encoding_is_taken_as_it_is():
    """Its special tokens are text like any other; the estimate errs to the safe side, whatever the language."""
    encoding = tiktoken.Encoding(
        "bytes",
        pat_str=r"\s*\S+|\s+",
        mergeable_ranks={bytes([n]): n for n in range(256)},
        special_tokens={"<|end|>": 256},
    )
    session = Session(messages=[Message("user", "<|end|>")])

    assert session.history(max_tokens=11, count_tokens=encoding) == session.history()
    assert session.history(max_tokens=10, count_tokens=encoding) == []


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("", 4),
        ("abcd", 5),
        ("abcde", 6),
        ("Grüße", 4 + 1 + 2),
        ("你好", 4 + 2),
        (None, 4),
        ([{"type": "text", "text": "abcd"}, {"type": "image_url", "image_url": {"url": "data:" + "x" * 9999}}], 1005),
        ({"type": "text", "text": "abcd"}, 5),
        ({"answer": 42}, 4 + 4),
        (42, 5),
    ],
)
def test_the_estimate_is_as_documented(content, tokens):
    """4 a message, 1 for 4 ASCII characters or 1 other, 1,000 for an image, JSON as its text."""
    assert tokens_of(Message("user", content), estimate) == tokens


def test_roles_are_chosen_first():
    """Without the tools' results their calls go; without users a window begins anywhere."""
    session = talk(*"sucaua")

    assert said(session.history(roles={"user", "assistant"})) == "u a u a"
    assert said(session.history(roles={"assistant"}, last=1)) == "a"
    assert said(session.history(roles={"system", "user"}, last=1)) == "s u"


def test_since_a_time_or_a_message():
    """The system's message stays; the window begins with a user's."""
    clock = StoppedClock()
    session = Session()
    for n, role in enumerate(["system", "user", "assistant", "user", "assistant"]):
        session.add_message(role, f"{n}", message_id=f"m{n}", timestamp=clock())
        clock.pass_(minutes=1)

    assert said(session.history(since=NOON + timedelta(minutes=3))) == "s u a"
    assert said(session.history(since=NOON + timedelta(minutes=2))) == "s u a"
    assert said(session.history(since=NOON)) == "s u a u a"
    assert said(session.history(since="m3")) == "s u a"
    assert said(session.history(since="m1")) == "s u a u a"
    assert said(session.history(since=NOON + timedelta(hours=1))) == "s"
    with pytest.raises(SessionStateError, match="has no message 'm9'"):
        session.history(since="m9")
    with pytest.raises(InvalidValueError, match="since has no time zone"):
        session.history(since=NOON.replace(tzinfo=None))


# Summaries --------------------------------------------------------------------------------------------------------


def test_a_summary_takes_the_place_of_what_it_sums_up():
    """After the instructions; the newest messages, back to the beginning of their turn, stay."""
    session = talk(*"suauauau")
    made = session.compact("They talked.", keep_last=2)

    assert said(session.history()) == "s s u a u"
    assert session.history()[1] == {"role": "system", "content": "They talked."}
    assert (made.message_count, made.last_message_id) == (5, session.messages[4].message_id)
    assert session.message_count == 8
    assert said(session.history(last=1)) == "s s u"
    assert said(session.history(roles={"user"})) == "u u"
    assert made.content not in repr(made)

    session.compact("They talked more.")
    assert said(session.history()) == "s s"
    assert session.summary.content == "They talked more."


def test_a_summary_follows_edits_and_goes_with_what_it_sums_up():
    """A message that is corrected leaves it; without its last message it stands for nothing."""
    session = talk(*"uauau")
    session.compact("They talked.", keep_last=1)
    assert session.summary.message_count == 4

    session.remove_message(session.messages[0].message_id)
    assert session.summary.message_count == 3
    session.insert_message(session.messages[1].message_id, "user", "between")
    assert session.summary.message_count == 4
    session.replace_message(session.messages[0].message_id, content="corrected")
    assert said(session.history()) == "s u"
    session.remove_message(session.messages[3].message_id)

    assert session.summary is None


@pytest.mark.parametrize(("roles", "keep_last"), [("", 0), ("s", 0), ("su", 1), ("suaua", 9), ("sau", 2)])
def test_nothing_cannot_be_summed_up(roles, keep_last):
    """The error says so; there is no summary."""
    session = talk(*roles)
    with pytest.raises(SessionStateError, match=r"has nothing before its last . messages to sum up"):
        session.compact("They talked.", keep_last=keep_last)
    assert session.summary is None


@pytest.mark.parametrize("given", ["", None, 7])
def test_a_summary_is_text(given):
    """The one before stays."""
    session = talk(*"ua")
    session.compact("They talked.")
    with pytest.raises(InvalidValueError):
        session.compact(given)
    assert session.summary.content == "They talked."


# Other formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["openai", "anthropic", "gemini"])
def test_what_history_gives_can_be_added_elsewhere(form):
    """The words and the calls are the same; what is refused leaves the session as it was."""
    session = talk(*"sucaua")
    window = session.history(format=form)
    CHECKS[form](window)
    other = Session()

    added = other.add_messages(window, format=form)

    assert added == list(other.messages)
    assert said(other.history()) == said(session.history())
    assert other.history(format=form) == window
    assert other.history(format=form).system == window.system
    with pytest.raises(InvalidValueError):
        other.add_messages([*window, {"role": "no such", "nothing": 1}], format=form)
    assert added == list(other.messages)


@pytest.mark.parametrize("form", ["openai", "anthropic", "gemini"])
def test_results_may_be_added_after_their_calls(form):
    """As an agent does it: what the model said, then what the tools gave, in two steps."""
    session = talk(*"u")
    session.add_message("assistant", None, tool_calls=[call("c1"), call("c2")])
    asked = session.history(roles={"user"}, format=form)
    complete = talk(*"uc").history(format=form)
    other = Session()
    other.add_messages(asked, format=form)
    other.add_messages(complete[1:2], format=form)

    other.add_messages(complete[2:], format=form)

    assert said(other.history()) == "u c r r"
    assert other.history(format=form) == complete
