"""Tests of the list entries that follow from a stored document."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import KVSessionStore, SessionManager
from pyai_sessions.documents.keys import head_key
from pyai_sessions.documents.listed import listed
from pyai_sessions.model.heads import microseconds
from pyai_sessions.testing import StoppedClock
from tests.storage.encrypted import sealer

CLOCK = StoppedClock()
NOW = microseconds(CLOCK())
ENDS = NOW + 60_000_000


def head_of(user_id, session_id="s/1", **options):
    mapping = {}
    manager = SessionManager(KVSessionStore(mapping, clock=CLOCK, **options))
    manager.create_session(user_id, session_id=session_id)
    return mapping[head_key(session_id)]


def lists_of(value, key="session/s%2F1"):
    return sorted(listed(key, lambda: value))


def hashed(user_id):
    return f"={sealer().user(user_id)}"


@pytest.mark.parametrize("under", ["", "namespace/a%2Fb/"])
@pytest.mark.parametrize("name", ["plain", "encrypted"])
@pytest.mark.parametrize("kind", [str, bytes, bytearray])
def test_a_head_stands_in_the_lists_of_its_status_and_its_user(under, name, kind):
    """A head is in the lists of its status and user by activity, and in that of expiring sessions by its end."""
    key = f"{under}session/s%2F1"

    def stored(head):
        data = head.encode() if name == "plain" else sealer().seal(key, head.encode())
        return data.decode() if kind is str else kind(data)

    user = "a%2Fda" if name == "plain" else hashed("a/da")

    assert lists_of(stored(head_of("a/da")), key) == [
        (f"{under}active", "s%2F1", NOW),
        (f"{under}user/{user}/active", "s%2F1", NOW),
    ]
    assert lists_of(stored(head_of("a/da", ttl=60)), key) == [
        (f"{under}active", "s%2F1", NOW),
        (f"{under}expiry", f"s%2F1/active/{user}", ENDS),
        (f"{under}user/{user}/active", "s%2F1", NOW),
    ]
    assert lists_of(stored(head_of(None, ttl=60)), key) == [
        (f"{under}active", "s%2F1", NOW),
        (f"{under}expiry", "s%2F1/active/", ENDS),
    ]
    archived = head_of("a/da").replace('"active"', '"archived"')
    assert lists_of(stored(archived), key) == [
        (f"{under}archived", "s%2F1", NOW),
        (f"{under}user/{user}/archived", "s%2F1", NOW),
    ]


@pytest.mark.parametrize("tear", [lambda text: text[:-30], lambda text: text.replace('"format":1', '"format":x')])
def test_a_damaged_head_stands_where_it_can_be_told(tear):
    """A damaged head stays in its user's list, so that reading the list raises."""
    assert lists_of(tear(head_of("ada"))) == [("active", "s%2F1", NOW), ("user/ada/active", "s%2F1", NOW)]


@pytest.mark.parametrize(
    "tear",
    [
        lambda text: text[:-40] + 'AAAA"}',
        lambda text: text[:-30],
        lambda text: text[:240],
        lambda text: text.replace('"encrypted":"', '"encrypted":x'),
        lambda text: text.replace('"format":1', '"format":x'),
    ],
)
def test_a_damaged_encrypted_head_stands_where_it_can_be_told(tear):
    """A damaged encrypted head stays in the list of its hashed user."""
    value = tear(sealer().seal("session/s%2F1", head_of("ada").encode()).decode())

    assert lists_of(value) == [("active", "s%2F1", NOW), (f"user/{hashed('ada')}/active", "s%2F1", NOW)]


@pytest.mark.parametrize("value", ["", "half a docum", b"\xff\xfe", 5, {"a": 5}, '{"user_id":""}', '{"user_id":5}'])
def test_what_tells_nothing_of_itself_is_listed_as_nobodys(value):
    """A head without a readable user is listed as a session of no user."""
    assert lists_of(value) == [("active", "s%2F1", 0)]


@pytest.mark.parametrize(
    "key",
    ["messages/s/g/0", "forks/s/t/i", "unreadable/s/t/session", "session", "session/a b", "session/", "foreign", "",
     "session/s/1", "namespace/session/s", "namespace/a/messages/s/g/0", "Session/s"],
)  # fmt: skip
def test_no_other_document_is_listed_or_read(key):
    """Only heads are read and listed."""
    assert list(listed(key, lambda: pytest.fail("it was read"))) == []


def test_a_document_that_is_gone_is_not_listed():
    """A document that was removed after its key was read is not listed."""
    assert lists_of(None) == []


NAME = re.compile(r"(active|archived|expiry|user/=?[A-Za-z0-9._~%-]+/(active|archived))\Z")
HEAD = head_of("ada", ttl=60).encode()
SEALED = sealer().seal("session/s%2F1", HEAD)


@st.composite
def torn(draw):
    """Return a head with changed or missing bytes."""
    text = bytearray(draw(st.sampled_from([HEAD, SEALED])))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, min(len(text), 400)))
        text[start : start + draw(st.integers(0, 8))] = draw(st.binary(max_size=25) | st.just(b"9" * 25))
    return bytes(text)


@settings(max_examples=300)
@given(torn() | st.text() | st.binary() | st.integers())
def test_no_document_fails_to_be_listed(value):
    """Any bytes give valid list names and scores."""
    found = lists_of(value)

    for name, member, score in found:
        assert NAME.match(name), name
        assert member.startswith("s%2F1"), member
        assert -(2**63) <= score < 2**63
    assert len(found) in (1, 2, 3)


def test_what_is_shown_in_the_clear_is_what_the_head_says():
    """The plain part of an encrypted head agrees with the head."""
    shown = json.loads(SEALED)
    assert (shown["activity"], shown["expires"], shown["status"]) == (NOW, ENDS, "active")
