"""Tests of how much of a conversation a model is given: *last*, *max_tokens*, *roles* and *since*."""

from datetime import timedelta

import pytest
import tiktoken

from pyai_sessions import InvalidValueError, Message, Session, SessionStateError
from pyai_sessions.prompts.tokens import estimate, tokens_of
from pyai_sessions.testing import NOON, StoppedClock
from tests.prompts.shorthand import said, talk


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
        ("aaa", 2, "a a"),
        ("aaaua", 4, "a a u a"),
        ("ucaua", 4, "u a u a"),
        ("ucau", 3, "u a u"),
        ("uacu", 3, "u"),
        ("uu", 1, "u"),
    ],
)
def test_last_is_at_most_so_many_from_a_users_turn_on(roles, last, window):
    """*last* does not count the system message. Of a turn that is too long, the question and the newest steps stay."""
    assert said(talk(*roles).history(last=last)) == window


def test_max_tokens_counts_what_instructs_the_model():
    """Instructions always stay, and count. If they alone are too long, it raises."""
    session = talk(*"suaua")
    whole = sum(tokens_of(each, estimate) for each in session.messages)

    assert said(session.history(max_tokens=whole)) == "s u a u a"
    assert said(session.history(max_tokens=whole - 1)) == "s u a"
    with pytest.raises(InvalidValueError, match=r"max_tokens leaves 0 tokens .* takes \d\d; raise it"):
        session.history(max_tokens=tokens_of(session.messages[0], estimate))
    with pytest.raises(InvalidValueError, match="max_tokens is 3; the messages that instruct the model take more: "):
        session.history(max_tokens=3)


class Encoding:
    """An encoder like tiktoken's, with a token for each word."""

    def encode_ordinary(self, text):
        return text.split()


@pytest.mark.parametrize("count", [lambda text: len(text.split()), Encoding()], ids=["callable", "encoder"])
def test_any_counter_of_tokens_will_do(count):
    """A counter may be any function. Each message adds 4."""
    session = talk(*"uaua")

    assert said(session.history(max_tokens=28, count_tokens=count)) == "u a"
    assert said(session.history(max_tokens=27, count_tokens=count)) == "u"


@pytest.mark.parametrize("count", [7, lambda _: -1, lambda _: 1.5, lambda _: None, lambda _: True])
def test_what_counts_no_tokens_is_refused(count):
    """An invalid counter raises an error that says what is accepted."""
    with pytest.raises(InvalidValueError, match=r"^count_tokens "):
        talk("u").history(max_tokens=100, count_tokens=count)


def test_tiktoken_s_encoding_is_taken_as_it_is():
    """A tiktoken encoding can be passed. Our own estimate is never lower, in any language."""
    encoding = tiktoken.Encoding(
        "bytes",
        pat_str=r"\s*\S+|\s+",
        mergeable_ranks={bytes([n]): n for n in range(256)},
        special_tokens={"<|end|>": 256},
    )
    session = Session(messages=[Message("user", "<|end|>")])

    assert session.history(max_tokens=11, count_tokens=encoding) == session.history()
    with pytest.raises(InvalidValueError, match=r"leaves 10 tokens .* the question of the newest turn takes 11"):
        session.history(max_tokens=10, count_tokens=encoding)


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
    """The estimate is 4 per message, 1 per 4 ASCII characters or other character, and 1,000 per image."""
    assert tokens_of(Message("user", content), estimate) == tokens


def test_roles_are_chosen_first():
    """Without the role of results, calls are left out. Without users, a window begins anywhere."""
    session = talk(*"sucaua")

    assert said(session.history(roles={"user", "assistant"})) == "u a u a"
    assert said(session.history(roles={"assistant"}, last=1)) == "a"
    assert said(session.history(roles={"system", "user"}, last=1)) == "s u"


def test_since_a_time_or_a_message():
    """`since=` keeps the system message, and begins with a user's."""
    clock = StoppedClock()
    session = Session()
    for n, role in enumerate(["system", "user", "assistant", "user", "assistant"]):
        session.add_message(role, f"{n}", message_id=f"m{n}", timestamp=clock())
        clock.advance(minutes=1)

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


def test_a_time_or_a_message_says_since_when():
    """Any other `since=` raises an error that says what is accepted."""
    session = talk(*"uaua")

    assert said(session.history(since="2020-01-01T00:00:00Z")) == "u a u a"
    with pytest.raises(SessionStateError, match=r"has no message '2024-01-01'\. since= is a message, .* no time zone"):
        session.history(since="2024-01-01")


def test_a_question_longer_than_the_limit_is_an_error():
    """A question that exceeds the limit raises an error with its size and the remedy."""
    session = Session(messages=[Message("user", "x" * 4000)])

    with pytest.raises(InvalidValueError, match=r"max_tokens leaves 100 tokens .* takes 1004; raise it, or shorten"):
        session.history(max_tokens=100)


def test_only_the_oldest_turn_of_a_window_has_a_gap():
    """Messages before one that does not fit are left out, even if they would fit."""
    texts = ["old", "old", "asked", "x" * 4000, "shown", "new", "new"]
    roles = ["user", "assistant", "user", "assistant", "assistant", "user", "assistant"]
    session = Session(messages=[Message(role, text) for role, text in zip(roles, texts, strict=True)])

    window = session.history(max_tokens=100)

    assert [each["content"] for each in window] == ["asked", "shown", "new", "new"]
    assert [each["content"] for each in session.history(max_tokens=2000)] == texts
