"""Tests of windows: the part of a conversation that a model is given."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, Message, Session, SessionManager, SessionStateError
from pyai_sessions.prompts.pairs import Orphan
from tests.prompts.prompt_rules import check_anthropic, check_gemini, check_openai
from tests.prompts.shorthand import call, calls, result, said, talk
from tests.prompts.test_corpus import load_corpus

CHECKS = {None: check_openai, "openai": check_openai, "anthropic": check_anthropic, "gemini": check_gemini}


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
    """Return a session with copies of messages under new ids."""
    return Session(
        messages=[
            Message(each.role, each.content, tool_calls=each.tool_calls, tool_call_id=each.tool_call_id)
            for each in messages
        ]
    )


@given(CONVERSATIONS, st.sampled_from(["openai", "anthropic", "gemini"]), st.integers(0, 12), st.integers(0, 300))
@settings(max_examples=300)
def test_any_window_is_accepted_by_each_format(messages, form, last, max_tokens):
    """Each format accepts any window, wherever it was cut."""
    session = anew(messages)
    try:
        window = session.history(last=last, max_tokens=max_tokens, format=form)
    except (InvalidValueError, SessionStateError):
        return

    if window:  # where nothing fits, there is none
        CHECKS[form](window)


@given(CONVERSATIONS, st.integers(0, 12))
@settings(max_examples=100)
def test_a_part_of_a_session_gives_what_the_whole_gives(messages, last):
    """A window of a part is that of the whole session, as far as it is loaded."""
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
    """Results follow their call. Calls and results without counterpart are left out, and `repair` names them."""
    session = Session(messages=messages)

    if window:
        assert said(session.history(interrupted="leave out")) == window
    else:  # never empty where there are messages
        with pytest.raises(SessionStateError, match=r"no message that a model can be given"):
            session.history(interrupted="leave out")
    assert sorted((kind, name) for kind, _, name in session.repair()) == sorted(orphans)


def test_repair_writes_what_history_shows():
    """`repair` removes orphans, and messages that held nothing else. A second one finds none."""
    session = Session(
        messages=[
            Message("user", "Weather?", message_id="m0"),
            calls("a", "b", content="Two cities.", message_id="m1", metadata={"k": 1}),
            result("a", message_id="m2"),
            calls("c", message_id="m3"),
            result("d", message_id="m4"),
        ]
    )
    before = session.history(interrupted="leave out")

    found = session.repair()
    assert found == session.repair(write=True)

    assert set(found) == {Orphan("call", "m1", "b"), Orphan("call", "m3", "c"), Orphan("result", "m4", "d")}
    assert [each.message_id for each in session.messages] == ["m0", "m1", "m2"]
    assert session.messages[1].tool_calls == [call("a")]
    assert session.messages[1].metadata == {"k": 1}
    assert session.history() == before
    assert session.repair(write=True) == []


def test_repair_of_a_part_takes_a_result_for_no_orphan():
    """In a part, `repair` keeps results, since their call may not be loaded, and removes calls without result."""
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
        assert said(part.history(last=3)) == "u c r"

    part.repair(write=True)
    manager.save(part)

    stored = manager.get_session("s")
    assert stored.message_count == 124
    assert stored.repair() == []


# Summaries --------------------------------------------------------------------------------------------------------


def test_a_summary_takes_the_place_of_what_it_sums_up():
    """A summary follows the instructions. The newest messages stay from the beginning of their turn."""
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
    """An edit of a summed-up message keeps the summary. Without its last message it is gone."""
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


@pytest.mark.parametrize(
    ("roles", "keep_last", "reason"),
    [
        ("", 0, "has no message to sum up"),
        ("s", 0, "has no message to sum up"),
        ("su", 1, "has 1 message to sum up, and keep_last=1 keeps all of them"),
        ("suaua", 9, "has 4 messages to sum up, and keep_last=9 keeps all of them"),
        ("ua", 1, "has nothing to sum up before the turn that its last message belongs to, since a turn is kept whole"),
        ("suaa", 2, "has nothing to sum up before the turn that its last 2 messages belong to, since a turn is kept"),
    ],
)
def test_nothing_cannot_be_summed_up(roles, keep_last, reason):
    """Summing up nothing raises."""
    session = talk(*roles)
    with pytest.raises(SessionStateError, match=reason):
        session.compact("They talked.", keep_last=keep_last)
    assert session.summary is None


@pytest.mark.parametrize("given", ["", None, 7])
def test_a_summary_is_text(given):
    """A summary that is not text raises, and the one before stays."""
    session = talk(*"ua")
    session.compact("They talked.")
    with pytest.raises(InvalidValueError, match=r"^summary is "):
        session.compact(given)
    assert session.summary.content == "They talked."


# Other formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["openai", "anthropic", "gemini"])
def test_what_history_gives_can_be_added_elsewhere(form):
    """What `history` returns can be added to another session. If it is refused, nothing changes."""
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
    """Results may be added in a later call than their calls."""
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


# Cases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [None, "openai", "anthropic", "gemini"])
def test_what_the_assistant_said_first_stays(form):
    """If an API needs a user first, a user's message says that the assistant begins."""
    session = Session(messages=[Message("assistant", "Shall I check in?"), Message("user", "yes")])

    window = session.history(format=form)

    roles = [each["role"] for each in window]
    assert (
        roles
        == {
            None: ["assistant", "user"],
            "openai": ["assistant", "user"],
            "anthropic": ["user", "assistant", "user"],
            "gemini": ["user", "model", "user"],
        }[form]
    )
    assert "Shall I check in?" in str(window)


@pytest.mark.parametrize("form", ["openai", "anthropic", "gemini"])
def test_an_interrupted_call_is_told(form):
    """A call without a result gets one that says that it was interrupted, unless that is turned off."""
    session = Session(messages=[Message("user", "charge my card"), calls("c1"), Message("user", "did it work?")])

    assert "whether it took effect is not known" in str(session.history(format=form))
    assert "weather" not in str(session.history(format=form, interrupted="leave out"))
    with pytest.raises(InvalidValueError, match="interrupted is 'hide'; it is 'tell' or 'leave out'"):
        session.history(interrupted="hide")


def test_an_interrupted_call_is_told_in_the_shape_of_its_api():
    """Without a format, such a result has the shape of the call's API."""
    use = {"type": "tool_use", "id": "c1", "name": "charge", "input": {}}
    session = Session(messages=[Message("user", "charge my card"), Message("assistant", [use])])

    told = session.history()[2]

    assert told["role"] == "user"
    assert told["content"][0].items() >= {"type": "tool_result", "tool_use_id": "c1", "is_error": True}.items()


@pytest.mark.parametrize("form", [None, "openai", "anthropic", "gemini"])
def test_half_a_character_does_not_stop_a_client(form):
    """A window can be encoded as UTF-8. The stored text stays as it is."""
    session = talk("u")
    session.add_message("assistant", None, tool_calls=[call("c\ud800")])
    session.add_message("tool", "cut \ud83d", tool_call_id="c\ud800")
    session.add_message("user", {"\udc00": "half"}, name="\udc00")

    window = session.history(format=form)

    assert "cut \ufffd" in repr(window).encode().decode()
    assert session.messages[2].content == "cut \ud83d"


def test_roles_mean_what_they_are_usually_called():
    """Usual names of roles are known to windows, turns and formats."""
    session = Session()
    for n in range(26):
        session.add_message("human", f"q{n}")
        session.add_message("ai", f"a{n}")

    assert len(session.history(last=50)) == 50
    assert [each["role"] for each in session.history(last=2)] == ["human", "ai"]
    assert [each["role"] for each in session.history(last=2, format="openai")] == ["user", "assistant"]
    assert [each["role"] for each in session.history(roles=["user"], last=2)] == ["human", "human"]
    session.compact("They talked.", keep_last=2)
    assert session.summary.message_count == 50
    session.rewind(2)
    assert session.message_count == 48


def test_speakers_say_what_any_role_means():
    """`speakers=` gives any role a meaning, also a known one."""
    session = Session(messages=[Message("assistant", "Where?"), Message("user", "There.")])

    window = session.history(format="openai", speakers={"assistant": "user", "user": "assistant"})

    assert [(each["role"], each["content"]) for each in window] == [("user", "Where?"), ("assistant", "There.")]


@pytest.mark.parametrize("role", ["tool", "user", "assistant", "function"])
def test_a_message_with_the_id_of_a_call_is_its_result(role):
    """A message of any role with a call's id is its result."""
    session = Session(messages=[Message("user", "?"), calls("a"), Message(role, "21", tool_call_id="a")])

    window = session.history(format="openai")

    assert said(window) == "u c r"
    assert (window[2]["tool_call_id"], window[2]["content"]) == ("a", "21")
    assert session.repair() == []


def test_a_role_that_no_api_knows_is_refused_by_name():
    """With a format, an unknown role raises unless `speakers=` gives it a meaning."""
    session = Session(messages=[Message("patient", "It hurts."), Message("doctor", "Where?")])

    assert [each["role"] for each in session.history(last=2)] == ["patient", "doctor"]
    with pytest.raises(InvalidValueError, match=r"role is 'patient' and 'doctor' in some mess") as caught:
        session.history(format="anthropic")
    assert "say who speaks: speakers={'patient': ..., 'doctor': ...}. It is 'user', 'assist" in caught.value.problem
    with pytest.raises(InvalidValueError, match=r"speakers\['patient'\] is .*; it is 'user', 'assistant'"):  # as copied
        session.history(format="anthropic", speakers={"patient": ..., "doctor": ...})
    window = session.history(format="anthropic", speakers={"patient": "user", "doctor": "assistant"})
    assert [each["role"] for each in window] == ["user", "assistant"]
    told = session.history(format="openai", speakers={"patient": "user", "doctor": "told"})
    assert [part["text"] for part in told[1]["content"]] == ["[doctor]", "Where?"]
    with pytest.raises(InvalidValueError, match=r"speakers\['doctor'\] is 'medic'; it is 'user', 'assistant'"):
        session.history(speakers={"doctor": "medic"})
    with pytest.raises(SessionStateError, match=r"0 turns, not 1: .* its roles are 'doctor', 'patient'; give the last"):
        session.rewind(1)
    assert session.rewind(session.messages[0])
    session.compact("They talked.", keep_last=0)
    assert session.summary.message_count == 1


def test_results_in_blocks_are_no_turn_and_orphans_of_them_are_found():
    """With results in blocks, `rewind` goes to the user's own words, and `repair` removes only orphaned blocks."""
    session = Session()
    session.add_message("user", "look")
    uses = [{"type": "tool_use", "id": each, "name": "look", "input": {}} for each in ("t0", "t1")]
    session.add_message("assistant", uses, message_id="asked")
    result_ = {"type": "tool_result", "tool_use_id": "t0", "content": "found"}
    session.add_message("user", [result_, {**result_, "tool_use_id": "t9"}], message_id="answered")

    assert set(session.repair()) == {Orphan("call", "asked", "t1"), Orphan("result", "answered", "t9")}
    session.repair(write=True)
    assert [each.content for each in session.messages] == ["look", uses[:1], [result_]]
    session.rewind(1)
    assert session.message_count == 0


@pytest.mark.parametrize("first", ["user", "assistant"])
def test_windows_of_real_dialogues_are_whole_turns(first):
    """A window of any dialogue of the corpus is the newest turns that fit, in each format."""
    names = [["human", "ai"], ["user", "model"], ["User", "bot"]]
    for n, session in enumerate(load_corpus()):
        said_ = [each.content for each in session.messages][:60]
        talk_ = Session()
        turn = 0 if first == "user" else 1
        for place, content in enumerate(said_):
            talk_.add_message(names[n % 3][(place + turn) % 2], content)
        for last in (1, 7, 20):
            whole = [each["content"] for each in talk_.history(last=last)]
            begin = max(0, len(said_) - last)
            asks = [place for place in range(len(said_)) if (place + turn) % 2 == 0]
            cut = next((place for place in asks if place >= begin), None)
            expected = said_ if begin == 0 else said_[cut:] if cut is not None else said_[begin - 1 : begin]
            assert whole == expected
            for form in ("openai", "anthropic", "gemini"):
                if said_:
                    CHECKS[form](talk_.history(last=last, format=form))
