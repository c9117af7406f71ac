"""Tests of damaged documents: each is read correctly or raises InvalidDocumentError."""

import itertools
import json
import pickle

import pytest

from pyai_sessions import InvalidDocumentError, KVSessionStore, Session, SessionManager, SQLiteMapping
from pyai_sessions.testing import NOON
from tests.documents.test_paging import saved

_HOSTILE = pickle.dumps({"format": 1, "session_id": "s"})


def small_document():
    session = Session("s", "ada", {"t": "\u00fc"}, {"k": [1, 2.5]}, created_at=NOON, updated_at=NOON)
    session.add_message("user", "Hi \U0001f600", message_id="m", timestamp=NOON, metadata={"a": None})
    mapping = {}
    KVSessionStore(mapping).save(session)
    return mapping["session/s"].encode()


def reads_or_refuses(manager):
    """Call everything that reads. Only InvalidDocumentError may be raised, and it must not quote the document."""
    for read in (
        lambda: manager.get_session("s"),
        lambda: manager.get_session("s", last=1),
        lambda: manager.get_sessions_for_user("ada"),
        manager.list_sessions,
        manager.count,
        manager.verify,
    ):
        error = refusal(read)
        assert error is None or (error.session_id == "s" and "Hi" not in str(error))


def refusal(read):
    try:
        read()
    except InvalidDocumentError as err:
        return err
    return None


def damages():
    document = small_document()
    for n in range(len(document)):
        for bit in (0x01, 0x20, 0x80):
            yield document[:n] + bytes([document[n] ^ bit]) + document[n + 1 :]
        yield document[:n]
        yield document[:n] + document[n + 1 :]
    yield _HOSTILE
    yield document + document
    yield document + b"\x00"
    yield b"\x00" * 4096


def as_text(document):
    try:
        return document.decode()
    except UnicodeDecodeError:
        return document


def test_any_damaged_byte_is_a_clean_read_or_an_invalid_document():
    """Any flipped or missing byte, and a pickle, gives a session or InvalidDocumentError."""
    count = 0
    for document in damages():
        for value in {document, as_text(document)}:
            mapping = {"session/s": value}
            reads_or_refuses(SessionManager(mapping))
            assert mapping == {"session/s": value}
            count += 1

    assert count > 1000


def test_any_damaged_byte_in_sqlite_is_a_clean_read_or_an_invalid_document():
    """The same holds in SQLite, for text and for blobs."""
    for document in itertools.islice(damages(), 0, None, 3):
        for value in {document, as_text(document)}:
            mapping = SQLiteMapping(":memory:")
            with mapping.connections.writing() as connection:
                connection.execute("INSERT INTO sessions VALUES ('session/s', ?)", (value,))
            reads_or_refuses(SessionManager(mapping))
            mapping.close()


@pytest.mark.parametrize(
    "value", ["", "x", "{}", "[7]", "[[]]", '[{"role":1}]', b"\xff", _HOSTILE, 7, "[" * 9999], ids=ascii
)
def test_a_damaged_page_is_an_invalid_document(value):
    """The error names the page. Messages in the head can still be read."""
    mapping = saved(40)
    page = next(key for key in mapping if key.startswith("messages/"))
    mapping[page] = value

    with pytest.raises(InvalidDocumentError) as caught:
        SessionManager(mapping).get_session("s")

    assert (caught.value.key, caught.value.session_id, caught.value.document) == (page, "s", value)
    assert len(SessionManager(mapping).get_session("s", last=1).messages) == 1


def test_a_page_of_fewer_messages_than_its_head_says_is_an_invalid_document():
    """A page with fewer messages than its head says raises."""
    mapping = saved(40)
    page = next(key for key in mapping if key.startswith("messages/"))
    mapping[page] = json.dumps(json.loads(mapping[page])[1:])

    with pytest.raises(InvalidDocumentError, match="message count does not fit"):
        SessionManager(mapping).get_session("s")


def test_a_missing_page_is_an_invalid_document():
    """A missing page raises an error that names it."""
    mapping = saved(40)
    page = next(key for key in mapping if key.startswith("messages/"))
    del mapping[page]

    with pytest.raises(InvalidDocumentError, match="the page is missing") as caught:
        SessionManager(mapping).get_session("s")

    assert caught.value.key == page
