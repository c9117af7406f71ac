"""Tests that hold the stored format still: today's text, and documents of the first release."""

import itertools
import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from pyai_sessions import (
    Checkpoint,
    Encrypted,
    InvalidDocumentError,
    KVSessionStore,
    SessionManager,
    SessionStatus,
    SQLiteMapping,
)
from pyai_sessions.documents import writing as drafts
from pyai_sessions.documents.writing import PAGE_MESSAGES
from pyai_sessions.testing import NOON, StoppedClock
from tests.documents.test_paging import saved

FROZEN = Path(__file__).parent / "frozen" / "format-1"


def pin_tokens(monkeypatch):
    revisions = itertools.count(1)
    monkeypatch.setattr(drafts, "new_token", lambda size: f"revision{next(revisions)}" if size == 12 else "sixbytes")


def test_the_text_written_today_is_this(monkeypatch):
    """If you change this text, you make a new format, and must add an upgrade from this one."""
    pin_tokens(monkeypatch)
    mapping = {}
    manager = SessionManager(mapping, clock=StoppedClock())
    session = manager.create_session("ada", session_id="a/b", metadata={"title": "Röm"}, state={"k": 1})
    session.add_message("user", "Hello! \U0001f600", message_id="m0")
    session.add_message("assistant", None, message_id="m1", tool_calls=[{"id": "c"}], metadata={"ms": 5}, name="bot")
    session.add_message("tool", {"temp": 21.5}, message_id="m2", tool_call_id="c")
    session.checkpoint("c")
    manager.save(session)

    assert list(mapping) == ["session/a%2Fb"]
    assert mapping["session/a%2Fb"] == (
        '{"format":1,"revision":"revision2","session_id":"a/b","user_id":"ada","status":"active",'
        '"created_at":"2026-01-31T12:00:00Z","updated_at":"2026-01-31T12:00:00.000004Z","message_count":3,'
        '"incarnation":"sixbytes","edition":"sixbytes","sealed":[],"dropped":[],'
        '"question":[0,"Hello! \U0001f600"],"metadata":{"title":"Röm"},"state":{"k":1},'
        '"checkpoints":[{"name":"c","message_count":3,"last_message_id":"m2","state":{"k":1},'
        '"created_at":"2026-01-31T12:00:00Z"}],"messages":['
        '{"role":"user","content":"Hello! \U0001f600","metadata":{},"timestamp":"2026-01-31T12:00:00Z",'
        '"message_id":"m0","tool_calls":null,"tool_call_id":null,"name":null},'
        '{"role":"assistant","content":null,"metadata":{"ms":5},"timestamp":"2026-01-31T12:00:00Z",'
        '"message_id":"m1","tool_calls":[{"id":"c"}],"tool_call_id":null,"name":"bot"},'
        '{"role":"tool","content":{"temp":21.5},"metadata":{},"timestamp":"2026-01-31T12:00:00Z",'
        '"message_id":"m2","tool_calls":null,"tool_call_id":"c","name":null}]}'
    )


def test_the_pages_written_today_are_these(monkeypatch):
    """A page is an array. The head names it by owner, generation, pages and messages."""
    pin_tokens(monkeypatch)
    mapping = {}
    manager = SessionManager(mapping, clock=StoppedClock())
    session = manager.create_session(session_id="s")
    for n in range(PAGE_MESSAGES + 1):
        session.add_message("user", "", message_id=f"m{n}", timestamp=NOON)
    manager.save(session)

    head = json.loads(mapping["session/s"])
    (run,) = head["sealed"]
    assert run == {"owner": "s", "generation": run["generation"], "pages": 1, "messages": PAGE_MESSAGES}
    assert mapping[f"messages/s/{run['generation']}/0"] == (
        "["
        + ",".join(
            '{"role":"user","content":"","metadata":{},"timestamp":"2026-01-31T12:00:00Z",'
            f'"message_id":"m{n}","tool_calls":null,"tool_call_id":null,"name":null}}'
            for n in range(PAGE_MESSAGES)
        )
        + "]"
    )
    assert [each["message_id"] for each in head["messages"]] == [f"m{PAGE_MESSAGES}"]


def check_frozen(manager):
    """Compare all that the frozen documents hold. They are never made anew."""
    assert manager.count(status=None) == 4
    assert [each.session_id for each in manager.list_sessions(limit=None)] == [
        "anonymous",
        "long",
        "tools/\u00fc \U0001f600",
    ]
    assert [each.session_id for each in manager.list_sessions(status="archived")] == ["old"]
    assert [each.session_id for each in manager.get_sessions_for_user("ada")] == ["long", "tools/\u00fc \U0001f600"]
    assert manager.verify()

    tools = manager.get_session("tools/\u00fc \U0001f600")
    assert (tools.user_id, tools.title) == ("ada", "Wetter in K\u00f6ln")
    assert tools.metadata == {"title": "Wetter in K\u00f6ln", "tags": ["a", {"b": None}]}
    assert tools.state == {"cursor": {"page": 2}, "big": 2**70, "\u043a\u043b\u044e\u0447": [1.5, True, None]}
    assert tools.created_at == NOON
    assert [(each.message_id, each.role, each.content) for each in tools.messages] == [
        ("m0", "user", "Wie ist das Wetter in K\u00f6ln? \U0001f326\ufe0f \x00"),
        ("m1", "assistant", None),
        ("m2", "tool", {"temp": 21.5, "wind": [1, 2]}),
        ("m3", "assistant", [{"type": "text", "text": "21,5 \u00b0C \ud83d"}]),
    ]
    assert tools.messages[1].tool_calls == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "K\u00f6ln"}'}}
    ]
    assert (tools.messages[2].tool_call_id, tools.messages[2].name) == ("call_1", "weather")
    assert tools.messages[0].metadata == {"client": "web"}
    assert tools.messages[0].timestamp == NOON
    assert tools.messages[0].to_dict()["x-reactions"] == ["+1"]
    assert tools.to_dict()["x-language"] == {"code": "de"}
    assert tools.checkpoints == [Checkpoint("asked", 1, "m0", {"cursor": {"page": 1}}, NOON)]
    assert tools.checkpoints[0].to_dict()["x-label"] == "L"

    long = manager.get_session("long")
    assert [each.content for each in long.messages] == [f"turn {n}" for n in range(80)]
    assert [each.message_id for each in long.messages] == [f"m{n}" for n in range(80)]
    assert {each.timestamp for each in long.messages} == {NOON + timedelta(hours=1)}
    assert manager.get_session("long", last=50).messages == long.messages[30:]

    old, anonymous = manager.get_session("old"), manager.get_session("anonymous")
    assert (old.active_at, old.updated_at) == (NOON - timedelta(minutes=90), NOON - timedelta(hours=1))
    titles = [each.title for each in manager.list_sessions(status=None)]
    assert titles == [None, "turn 0", "Wetter in K\u00f6ln", "Bye."]
    assert (old.status, old.user_id, old.messages[0].content) == (SessionStatus.ARCHIVED, "bob", "Bye.")
    assert (anonymous.user_id, anonymous.message_count, anonymous.metadata, anonymous.state) == (None, 0, {}, {})

    long.add_message("user", "today")
    manager.save(long)
    assert manager.get_session("long").message_count == 81
    manager.restore("old")
    assert manager.count() == 4


def test_documents_of_format_1_are_read_for_ever():
    """Documents of the first release are read in full, and can be changed."""
    mapping = json.loads((FROZEN / "mapping.json").read_text())

    assert sum(key.startswith("messages/long/") for key in mapping) == 2
    check_frozen(SessionManager(mapping))


def test_changed_documents_of_format_1_are_read_for_ever():
    """Runs in pieces, a branch, a fork, and answers that were stored while they grew are read, and can be changed."""
    mapping = json.loads((FROZEN / "changed.json").read_text())
    manager, turns = SessionManager(mapping), [f"turn {n}" for n in range(130)]
    assert [len(json.loads(mapping[f"session/{each}"])["sealed"]) for each in ("changed", "fork")] == [4, 2]
    assert manager.verify()

    session = manager.get_session("changed")
    assert [each.content for each in session.messages] == [
        *turns[:70],
        "said anew",
        *turns[72:129],
        "Once upon a time",
        "Once ",
        "Once upon ",
    ]
    assert session.messages[40].metadata == {"rating": 5}
    now = NOON + timedelta(minutes=1)
    assert [each.status_at(now) for each in session.messages[-3:]] == ["complete", "cut off", "growing"]
    assert [each.content for each in manager.get_session("fork").messages] == turns[:100]
    [branch] = session.branches
    left = manager.switch("changed", branch)
    assert [each.content for each in left.messages] == [*turns[:70], "said anew", *turns[72:]]

    manager.replace_message("changed", "m70", content="said once more")
    manager.append("fork", {"role": "user", "content": "more"})
    assert manager.get_message("changed", "m70").content == "said once more"
    assert manager.get_session("fork").message_count == 101
    assert manager.verify()


def test_a_sqlite_file_of_format_1_is_read_for_ever(tmp_path):
    """A file of the first release can be opened and changed."""
    shutil.copy(FROZEN / "sessions.db", tmp_path)

    with SessionManager(f"sqlite:///{tmp_path}/sessions.db") as manager:
        check_frozen(manager)


def test_encrypted_documents_of_format_1_are_read_for_ever():
    """Encrypted documents of the first release can be read, compressed or not."""
    mapping = json.loads((FROZEN / "encrypted.json").read_text())
    keys = {"index": b"index key, for ever: 32 bytes ok", "2026-01": b"an old key, for ever: 32 bytes k"}

    check_frozen(SessionManager(KVSessionStore(Encrypted(mapping, keys))))


def test_the_frozen_documents_are_what_is_written_today():
    """Today's documents have the same keys, and the same fields in the same order, as the frozen ones."""
    mapping = json.loads((FROZEN / "mapping.json").read_text())
    rewritten = {}

    for session_id in ("tools/\u00fc \U0001f600", "long", "old", "anonymous"):
        session = KVSessionStore(mapping).get(session_id)
        SessionManager(rewritten).import_sessions([session])

    tokens = {"revision", "incarnation", "edition", "sealed"}
    for key, text in mapping.items():
        if key.startswith("session/"):
            old, new = json.loads(text), json.loads(rewritten[key])
            assert list(new) == list(old)
            assert {k: v for k, v in new.items() if k not in tokens} == {
                k: v for k, v in old.items() if k not in tokens
            }


@pytest.mark.parametrize("user_id", ["", "u" * 1025])
@pytest.mark.parametrize("make", [dict, lambda: SQLiteMapping(":memory:")], ids=["dict", "SQLite"])
def test_a_head_of_an_impossible_user_is_refused_and_stops_nothing_else(make, user_id):
    """A head with an invalid user id raises an error that names it, and does not break the index."""
    mapping = make()
    manager = SessionManager(mapping)
    manager.create_session("ada", session_id="a")
    mapping["session/b"] = json.dumps({"format": 1, "session_id": "b", "user_id": user_id})

    manager.reindex()

    assert [each.kind for each in manager.verify().problems] == ["unreadable head"]
    assert [each.session_id for each in manager.get_sessions_for_user("ada")] == ["a"]
    with pytest.raises(InvalidDocumentError, match="user_id"):
        manager.get_session("b")


@pytest.mark.parametrize("start", [-1, 10**6, 10**18, "1"])
def test_a_head_whose_pages_begin_where_none_can_lie_is_refused(start):
    """A head with an absurd page number raises before a list of keys is made."""
    mapping = saved(100)
    head = json.loads(mapping["session/s"])
    head["sealed"][0]["start"] = start
    mapping["session/s"] = json.dumps(head)

    with pytest.raises(InvalidDocumentError):
        SessionManager(mapping).get_session("s")
