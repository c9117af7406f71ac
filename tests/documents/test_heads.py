"""Tests of reading heads: older formats, unknown fields, and what is refused."""

import json

import pytest

from pyai_sessions import InvalidDocumentError, InvalidValueError, Message, SessionManager
from pyai_sessions.documents import reading as documents
from pyai_sessions.documents.writing import PAGE_MESSAGES
from tests.documents.test_paging import saved


def test_an_older_format_is_upgraded_when_it_is_read(monkeypatch):
    """A document of an older format is upgraded when it is read. The next save writes today's."""
    old = {"format": 0, "id": "s", "user": "ada", "turns": [["user", "Hello!"]]}

    def upgrade(head):
        turns = [
            {"role": role, "content": content, "message_id": f"m{n}", "timestamp": "2026-01-31T12:00:00Z"}
            for n, (role, content) in enumerate(head["turns"])
        ]
        return {"format": 1, "session_id": head["id"], "user_id": head["user"], "messages": turns}

    monkeypatch.setitem(documents.UPGRADES, 0, upgrade)
    mapping = {"session/s": json.dumps(old)}
    manager = SessionManager(mapping)

    session = manager.get_session("s")

    assert (session.user_id, session.messages[0].content) == ("ada", "Hello!")
    session.add_message("assistant", "Hi!")
    manager.save(session)
    assert json.loads(mapping["session/s"])["format"] == 1
    assert [each.content for each in manager.get_session("s").messages] == ["Hello!", "Hi!"]
    assert [each.session_id for each in manager.get_sessions_for_user("ada")] == ["s"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"format":2,"session_id":"s"}', "it has format 2, written by a newer release; this one reads up to 1"),
        ('{"format":2,"session_id":"s","messages":7}', "it has format 2, written by a newer release"),
        ('{"format":0,"session_id":"s"}', "it has format 0, which never was"),
        ('{"format":-1,"session_id":"s"}', "it has format -1, which never was"),
        ('{"session_id":"s"}', 'it is not a JSON object with a whole number as "format"'),
        ('{"format":"1","session_id":"s"}', 'it is not a JSON object with a whole number as "format"'),
        ('{"format":true,"session_id":"s"}', 'it is not a JSON object with a whole number as "format"'),
        ('{"format":1,"session_id":"t"}', "it is the head of session 't'"),
        ('{"format":1}', "it is the head of session ''"),
        ("[]", "it is not a JSON object"),
        ("7", "it is not a JSON object"),
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ('{"format":1,"session_id":"s","messages":{}}', "it is not a JSON array"),
        ('{"format":1,"session_id":"s","messages":[{}]}', "an element is not a message"),
        ('{"format":1,"session_id":"s","messages":[],"message_count":1}', "its message count does not fit"),
        ('{"format":1,"session_id":"s","state":[]}', "it does not have the expected shape"),
        ('{"format":1,"session_id":"s","checkpoints":7}', ""),
        ('{"format":1,"session_id":"s","checkpoints":[{}]}', ""),
        ('{"format":1,"session_id":"s","updated_at":"2026-01-31T12:00:00"}', ""),
        ('{"format":1,"session_id":"s","status":"gone"}', ""),
        ('{"format":1,"session_id":"s","user_id":7}', ""),
        ("[" * 100_000, "it is nested too deeply"),
        (7, "it is an int, not JSON text"),
        (b"\xff", "its bytes are not UTF-8 text"),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_what_is_not_a_head_of_this_session_is_refused(text, reason):
    """The error has the key, session, document and reason. The document stays as it is."""
    mapping = {"session/s": text}
    manager = SessionManager(mapping)

    with pytest.raises(InvalidDocumentError) as caught:
        manager.get_session("s")

    error = caught.value
    assert (error.key, error.session_id) == ("session/s", "s")
    assert reason in error.reason
    assert error.reason in str(error)
    assert mapping == {"session/s": text}


def test_an_unreadable_document_is_never_overwritten():
    """A new session, a save, an append and a change of status do not overwrite an unreadable document."""
    mapping = {}
    manager = SessionManager(mapping)
    session = manager.create_session("u", session_id="s")
    mapping["session/s"] = damaged = mapping["session/s"][:20]
    session.add_message("user", "x")

    for write in (
        lambda: manager.save(session),
        lambda: manager.save(session, on_conflict="overwrite"),
        lambda: manager.create_session("u", session_id="s"),
        lambda: manager.get_or_create_session("s"),
        lambda: manager.append("s", {"role": "user", "content": "x"}),
        lambda: manager.archive("s"),
    ):
        with pytest.raises(InvalidDocumentError):
            write()

    assert mapping == {"session/s": damaged}


def test_the_document_of_another_session_is_refused():
    """A document that was copied under another key cannot be read as that session."""
    mapping = saved(40)
    mapping["session/t"] = mapping["session/s"]

    with pytest.raises(InvalidDocumentError, match="it is the head of session 's'"):
        SessionManager(mapping).get_session("t")


def test_unknown_fields_survive_a_load_and_a_save():
    """Unknown fields of the head, of messages and of checkpoints are kept."""
    mapping = saved(40)
    manager = SessionManager(mapping)
    session = manager.get_session("s")
    session.checkpoint("c")
    manager.save(session)
    page = next(key for key in mapping if key.startswith("messages/"))
    head, sealed = json.loads(mapping["session/s"]), json.loads(mapping[page])
    head["language"] = {"code": "it", "\ud800": [2**70]}
    head["messages"][0]["reactions"] = ["+1"]
    head["checkpoints"][0]["label"] = "L"
    sealed[3]["edited_by"] = "bob"
    mapping["session/s"], mapping[page] = json.dumps(head), json.dumps(sealed)

    session = manager.get_session("s")
    session.add_message("user", "more")
    session.set_state("k", 1)
    manager.save(session)
    manager.append("s", {"role": "user", "content": "even more"})
    manager.archive("s")

    after = json.loads(mapping["session/s"])
    assert after["language"] == {"code": "it", "\ud800": [2**70]}
    assert after["messages"][0]["reactions"] == ["+1"]
    assert after["checkpoints"][0]["label"] == "L"
    assert json.loads(mapping[page])[3]["edited_by"] == "bob"
    assert manager.get_session("s").messages[3].to_dict()["edited_by"] == "bob"
    assert manager.get_session("s").to_dict()["language"] == head["language"]


def test_unknown_fields_of_messages_are_sealed_with_them():
    """Unknown fields of messages move with them into a page, also when the page is rewritten."""
    mapping = {}
    manager = SessionManager(mapping)
    session = manager.create_session(session_id="s")
    manager.append("s", Message.from_dict({"role": "user", "content": "", "message_id": "m", "x-kept": 1}))
    manager.append("s", *({"role": "user", "content": n} for n in range(PAGE_MESSAGES)))

    session = manager.get_session("s")
    session.pop()
    session.replace_message("m", content="edited")
    manager.save(session)

    assert manager.get_session("s").messages[0].to_dict()["x-kept"] == 1


def test_a_session_that_cannot_be_stored_writes_nothing():
    """A value that JSON cannot hold raises before the first write, wherever it was put."""
    mapping = saved(40)
    manager = SessionManager(mapping)
    before = dict(mapping)

    for name, path in [("state", "state['cursor']"), ("metadata", "metadata['cursor']")]:
        session = manager.get_session("s")
        for n in range(40):  # a page is full
            session.add_message("user", n)
        vars(session)[name] = {"cursor": {1, 2}}  # past the check
        with pytest.raises(InvalidValueError) as caught:
            manager.save(session)

        assert caught.value.path == path
        assert mapping == before


@pytest.mark.parametrize("given_messages", [[], [Message("user", "x", message_id="m")], None, "x"], ids=repr)
def test_a_history_that_was_assigned_to_is_refused(given_messages):
    """A history replaced by assignment raises an error that names the methods to use. Nothing is written."""
    mapping = saved(3)
    manager = SessionManager(mapping)
    session = manager.get_session("s")
    before = dict(mapping)

    with pytest.raises(InvalidValueError, match=r"^messages was assigned to"):
        session.messages = given_messages
    vars(session)["messages"] = given_messages  # past the check

    with pytest.raises(InvalidValueError, match=r"^messages was assigned to"):
        manager.save(session)
    assert mapping == before
