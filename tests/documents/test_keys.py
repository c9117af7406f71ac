"""Tests of the keys of documents, which no id can forge."""

import string

import pytest
from hypothesis import example, given, settings

from pyai_sessions import SessionManager
from pyai_sessions.documents.keys import decode_id, encode_id, head_key, page_prefix, session_of_key
from pyai_sessions.documents.writing import PAGE_MESSAGES
from tests.documents.any_session import ids

hostile_ids = [
    "a/b", "../../etc/passwd", ".", "..", "%2F", "%", "session/a", "messages/a/g/0", "a/g/0", "a\x00b", " ", "a b",
    "\ud800", "\U0001f600", "*", "a:b", "{a}", "~", "a%00", "CON", "\n", "\u2028", "é", "e\u0301",
]  # fmt: skip


@given(ids)
@settings(max_examples=200)
@example("." * 1024)
def test_an_id_is_read_back_from_its_key(session_id):
    """Encoding an id loses nothing, and is safe in keys, paths and URLs."""
    text = encode_id(session_id)

    assert decode_id(text) == session_id
    assert set(text) <= set(string.ascii_letters + string.digits + "_.-~%")
    assert not text.startswith(".")


@given(ids, ids)
@settings(deadline=None)
@example("a", "a/b")
@example("a", "a%2Fb")
@example("\ud83d\ude00", "\U0001f600")
def test_no_id_forges_the_key_of_another(one, other):
    """Keys of two sessions are never equal, and never lie below each other."""
    if one == other:
        return

    assert head_key(one) != head_key(other)
    assert not page_prefix(one).startswith(page_prefix(other))
    assert not head_key(one).startswith(page_prefix(other))
    assert not page_prefix(one).startswith("session/")


@pytest.mark.parametrize("session_id", hostile_ids, ids=ascii)
def test_a_key_tells_whose_it_is(session_id):
    """The key of a head or a page gives the session's id."""
    assert session_of_key(head_key(session_id)) == session_id
    assert session_of_key(f"{page_prefix(session_id)}g-_1/0") == session_id


@pytest.mark.parametrize(
    "key",
    [
        "session", "session/", "session/a/b", "session/a b", "session/%2f", "session/%zz", "session/..", "session/%ED",
        "messages/a", "messages/a/g", "messages/a/g/", "messages/a/g/x", "messages/a/g/0/1", "messages//g/0",
        "Session/a", "sessions/a", "", "a", "/session/a", b"session/a", None, 7, ("session", "a"),
    ],
)  # fmt: skip
def test_a_foreign_key_is_nobody_s(key):
    """Keys that we would not write are ignored, since a mapping may hold other items."""
    assert session_of_key(key) is None


def test_sessions_of_hostile_ids_lie_beside_each_other():
    """Sessions of hostile ids can be stored, found and deleted without touching each other or foreign keys."""
    mapping = {"other": "thing", "session": "x", "messages/": "y"}
    manager = SessionManager(mapping)
    for session_id in hostile_ids:
        session = manager.create_session("u", session_id=session_id)
        for n in range(PAGE_MESSAGES + 1):
            session.add_message("user", f"{encode_id(session_id)} {n}")
        manager.save(session)

    for session_id in hostile_ids:
        assert manager.get_session(session_id).messages[-1].content == f"{encode_id(session_id)} {PAGE_MESSAGES}"
        assert manager.delete(session_id)

    assert mapping == {"other": "thing", "session": "x", "messages/": "y"}
