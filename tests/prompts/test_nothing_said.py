"""Messages that say nothing, such as a framework's records: no window has them, and none counts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, Message, Session, SessionManager, SessionStateError
from tests.prompts.test_windows import TURNS

RECORD = {"langgraph": {"checkpoint": "1", "ns": ""}}


def talk(*messages):
    session = Session("s", "ada")
    session.add_messages(messages)
    return session


def outcome(session, **options):
    """Return a window, or why there is none."""
    try:
        window = session.history(**options)
    except (InvalidValueError, SessionStateError) as err:
        return type(err)
    return list(window), window.system


OPTIONS = st.fixed_dictionaries(
    {
        "last": st.none() | st.integers(0, 8),
        "max_tokens": st.none() | st.integers(1, 200),
        "roles": st.sampled_from([None, ["user"], ["assistant", "tool"]]),
        "format": st.sampled_from([None, "openai", "responses", "anthropic", "gemini", "bedrock"]),
    }
)


@given(st.lists(TURNS, max_size=6).map(lambda turns: [each for turn in turns for each in turn]), OPTIONS, st.data())
def test_what_says_nothing_changes_no_window(messages, options, data):
    """A window is the same with messages between that say nothing, whatever it is asked for."""
    between = [*messages]
    for place in data.draw(st.lists(st.integers(0, len(messages)), max_size=5)):
        between.insert(place, Message("assistant", None, metadata=RECORD))

    assert outcome(talk(*between), **options) == outcome(talk(*messages), **options)


@pytest.mark.parametrize("fields", [
    {"role": "user", "content": None},
    {"role": "assistant", "content": ""},
    {"role": "assistant", "content": None, "tool_call_id": "c"},
    {"role": "assistant", "content": None, "metadata": {"openai": {"message": {"refusal": "No."}}}},
])  # fmt: skip
def test_only_the_assistants_silence_counts_for_nothing(fields):
    """A message counts if it has a content, even an empty text, a call, the id of one, or what an API says besides."""
    session = talk(Message("user", "Hello!"), Message(**fields))

    assert len(session.history(last=1, interrupted="leave out") or [1]) == 1
    assert "Hello!" not in str(session.history(last=1, roles=[fields["role"]], interrupted="leave out"))


def test_the_newest_messages_that_a_summary_spares_are_such_that_say_something():
    """``keep_last`` counts what is said."""
    records = [Message("assistant", None, metadata=RECORD) for _ in range(3)]
    said = [Message("user", "one"), Message("assistant", "two"), Message("user", "three"), Message("assistant", "four")]

    session = talk(*said, *records)
    session.compact("They counted.", keep_last=2)

    assert [each["content"] for each in session.history()] == ["They counted.", "three", "four"]


def test_a_part_of_a_session_is_windowed_as_the_whole():
    """With the newest messages loaded alone, the window is that of these, records left out."""
    manager = SessionManager()
    for n in range(4):
        said = [Message("user", f"question {n}"), Message("assistant", f"answer {n}")]
        manager.update("s", *said, Message("assistant", None, metadata=RECORD), create=True)

    part = manager.get_session("s", last=9)

    assert [each["content"] for each in part.history(last=4)] == ["question 2", "answer 2", "question 3", "answer 3"]
