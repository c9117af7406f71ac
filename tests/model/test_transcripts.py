"""Transcripts: a conversation as people read it, in a terminal and in a notebook."""

import copy
import unicodedata
from datetime import timedelta, timezone
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, Message, Session, SessionManager
from pyai_sessions.testing import NOON
from tests.samples import CALLS, PARTS

HOSTILE = st.text(
    st.one_of(st.sampled_from("\x1b\x07\x00\n\r\t\v\x0c\x1c\x85\u2028\u202e\u2066\ud800<>&\"': "), st.characters()),
    max_size=30,
)
CONTENTS = st.one_of(
    HOSTILE,
    st.none(),
    st.recursive(
        st.one_of(HOSTILE, st.integers(), st.none()), lambda each: st.lists(each) | st.dictionaries(HOSTILE, each)
    ),
    st.lists(
        st.builds(
            lambda kind, text: {
                "type": kind,
                kind: text,
                "text": text,
                "image_url": {"url": text},
                "file": {"filename": text},
            },
            st.sampled_from(["text", "image_url", "file", "image", "thinking", "refusal", "tool_use", "tool_result"]),
            HOSTILE,
        )
    ),
)
MESSAGES = st.builds(
    Message,
    st.one_of(st.sampled_from(["user", "assistant", "tool", "system"]), HOSTILE),
    CONTENTS,
    name=st.none() | HOSTILE,
    tool_call_id=st.none() | HOSTILE,
    tool_calls=st.none() | st.lists(st.dictionaries(st.sampled_from(["id", "function", "name"]), CONTENTS), max_size=2),
)


class Tags(HTMLParser):
    """Collects the tags of an HTML text with their attributes, and the text between."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def session():
    """A conversation with a tool, an image and several lines."""
    made = Session(created_at=NOON)
    made.add_message("system", "Be brief.", timestamp=NOON)
    made.add_message("user", "How warm\nis it?", name="ada", timestamp=NOON)
    made.add_message("assistant", "", tool_calls=CALLS, timestamp=NOON)
    made.add_message("tool", "It is\n  21.5", tool_call_id="call_1", timestamp=NOON)
    made.add_message("user", PARTS, timestamp=NOON)
    return made


def test_a_transcript_has_a_paragraph_for_each_message(session):
    """The speaker, then what is said, indented; calls, results and images are a line each."""
    assert (
        session.transcript()
        == """\
system:
    Be brief.
user (ada):
    How warm
    is it?
assistant:
    calls weather({"city": "Rome"})
tool:
    weather returned: It is 21.5
user:
    Look:
    [image]"""
    )


def test_times_are_shown_in_the_zone_that_is_asked_for(session):
    """Times are shown in a zone, by name or tzinfo; without one they are left out."""
    for zone in ("Asia/Kolkata", timezone(timedelta(hours=5, minutes=30))):
        first = session.transcript(zone=zone).splitlines()[0]
        assert first == "system, 2026-01-31 17:30:00 +0530:"
    assert session.transcript(zone="local").startswith("system, 2026-01-31 ")


def test_what_is_left_out_is_counted(session):
    """Messages that `last=`, the roles or a partial load leave out are counted."""
    manager = SessionManager()
    manager.import_sessions([session])
    part = manager.get_session(session.session_id, last=2)

    assert session.transcript(last=1).splitlines()[:2] == ["(4 earlier messages not shown)", "user:"]
    assert session.transcript(last=1, roles=["system", "user"]).startswith("(2 earlier messages not shown)\nuser:")
    assert part.transcript(last=1).startswith("(1 earlier message not shown, 3 earlier messages not loaded)\nuser:")
    assert session.transcript(last=0) == "(5 earlier messages not shown)"
    assert Session().transcript() == ""


def test_lines_are_wrapped_at_a_width():
    """Words that are longer than a line are cut, and calls are folded to one line of that width."""
    session = Session(messages=[Message("user", f"{'word ' * 30}{'x' * 50}")])
    session.add_message("assistant", None, tool_calls=[{"id": "c", "function": {"name": "f", "arguments": "y" * 500}}])

    lines = session.transcript(width=40).splitlines()

    assert max(map(len, lines)) == 40
    assert (
        "".join(session.transcript(width=40).split())
        == f"user:{'word' * 30}{'x' * 50}assistant:callsf({'y' * 27}\u2026"
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"last": -1}, "last is -1; it is a whole number"),
        ({"width": 5}, "width is 5; it is a number of 20 or more"),
        ({"zone": "Vienna"}, "zone is 'Vienna', no time zone that this machine knows; it is a name such as"),
        ({"zone": "../etc"}, "zone is '../etc', no time zone"),
        ({"zone": 1}, "zone is an int; it is the name of a time zone"),
        ({"roles": 5}, "roles is an int; it is a list of roles"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(session, options, problem):
    """An invalid option raises an error that says what is accepted."""
    with pytest.raises(InvalidValueError, match=problem):
        session.transcript(**options)


def test_a_transcript_is_text_that_no_log_shows(session):
    """A transcript is a str whose repr shows no text."""
    transcript = session.transcript()

    assert isinstance(transcript, str)
    assert "Be brief" in f"{transcript}"
    assert repr(transcript) == "<Transcript of 5 messages; print() shows it>"
    assert copy.deepcopy(transcript) == transcript


@given(st.lists(MESSAGES, max_size=4), st.none() | st.integers(20, 60))
def test_no_message_can_look_like_another_or_move_a_cursor(messages, width):
    """Each line that begins without a space begins a message, and all characters but newlines and tabs are visible."""
    session = Session(messages={each.message_id: each for each in messages}.values())

    transcript = session.transcript(width=width)

    assert len([line for line in transcript.split("\n") if line and line[0] != " "]) == session.message_count
    assert not [
        each for each in transcript if unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") and each not in "\n\t"
    ]
    assert not set(transcript) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


@given(st.lists(MESSAGES, max_size=4))
def test_a_notebook_shows_all_of_it_and_takes_no_markup_from_it(messages):
    """The HTML has our tags alone, with no attribute but a style, and the text of the transcript."""
    session = Session(messages={each.message_id: each for each in messages}.values())
    transcript = session.transcript(zone="UTC")

    found = Tags(transcript._repr_html_())

    assert found.tags == [
        ("div", ()),
        *[("div", ()), ("b", ()), ("small", ()), ("div", ("style",))] * session.message_count,
    ]
    for each in transcript._entries:
        assert each.text in found.text
