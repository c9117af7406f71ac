"""Tests of the two codecs of documents, which read each other's text."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, Message, Session, SessionManager
from pyai_sessions.documents.keys import page_keys
from pyai_sessions.documents.limits import KEPT
from pyai_sessions.documents.reading import read_head, read_messages, restore, write_messages
from pyai_sessions.documents.writing import PAGE_BYTES, PAGE_MESSAGES, appended, compose
from pyai_sessions.testing import NOON, StoppedClock
from pyai_sessions.values.json import MAX_DEPTH
from tests.documents.any_session import DEEP, in_full, messages, nested, restored, sessions


@given(sessions())
@settings(max_examples=60)
@example(Session())
@example(DEEP)
def test_the_fast_codec_stores_all_of_a_session(session):
    """`read_head` and `restore` read an equal session from what `compose` wrote."""
    made = restored(compose(session))

    assert made == session
    assert in_full(made) == in_full(session)


@given(sessions())
@settings(max_examples=60)
@example(Session())
@example(DEEP)
def test_the_declared_codec_reads_what_the_fast_one_wrote(session):
    """`Session.from_json` and `json.loads` read a stored conversation of one page."""
    draft = compose(session)
    if draft.pages:  # larger than a page
        return

    made = Session.from_json(draft.head)

    assert made == session
    assert in_full(made) == in_full(session)


@given(sessions())
@settings(max_examples=60)
@example(Session())
@example(DEEP)
def test_the_fast_codec_reads_what_the_declared_one_wrote(session):
    """The text of `to_json` is a valid document, and can be put into a mapping by hand."""
    text = session.to_json()

    made = restore(read_head(text, session.session_id), [], StoppedClock())

    assert made == session
    assert in_full(made) == in_full(session)


@given(st.lists(messages(), max_size=4))
@settings(max_examples=60)
@example([])
@example([Message("user", nested(MAX_DEPTH))])
def test_a_page_is_an_array_of_messages_in_both_codecs(given_messages):
    """`write_messages` and `Message.to_json` write the same, and read each other's text."""
    page = write_messages(given_messages)
    declared = "[" + ",".join(each.to_json() for each in given_messages) + "]"

    by_fast = read_messages(declared, "key", "s")
    by_declared = [Message.from_json(json.dumps(each)) for each in json.loads(page)]

    assert json.loads(page) == json.loads(declared)
    for made in (read_messages(page, "key", "s"), by_fast, by_declared):
        assert made == given_messages
        assert [each.to_dict() for each in made] == [each.to_dict() for each in given_messages]


@given(sessions())
@settings(max_examples=60)
def test_what_a_session_was_read_from_is_written_again(session):
    """Storing, reading and storing again changes only the tokens of the commit."""
    once = restored(compose(session))

    again = restored(compose(once))

    assert in_full(again) == in_full(session)


SPELLINGS = {
    "ours": lambda head: head,
    "escaped": lambda head: json.dumps(json.loads(head), separators=(",", ":")),
    "by hand": lambda head: json.dumps(json.loads(head), indent=1, ensure_ascii=False),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(sessions(), st.lists(messages(), max_size=3, unique_by=lambda each: each.message_id))
@settings(max_examples=25)
def test_messages_are_written_after_what_is_stored(spelling, session, added):
    """New messages are added to the stored text as it is. Changed or removed messages are left out of it."""
    head = SPELLINGS[spelling](compose(session).head)
    grown = restore(read_head(head, session.session_id), [], StoppedClock())
    grown._history.extend([each for each in added if grown._history.find(each.message_id) is None])
    changed = restore(read_head(compose(grown).head, session.session_id), [], StoppedClock())
    if changed.message_count:
        changed.pop()
        changed.add_message("user", "instead")

    for each in (grown, changed):
        stored = restored(compose(each))
        assert [one.to_dict() for one in stored.messages] == [one.to_dict() for one in each.messages]
        assert stored == each


def test_a_long_message_is_written_again_with_what_follows():
    """A session does not keep a second copy of a long message's text."""
    session = restored(compose(Session(messages=[Message("user", "x" * 100_000, message_id="long")])))
    session.add_message("user", "short")

    stored = restored(compose(session))

    assert [len(each.content) for each in stored.messages] == [100_000, 5]
    assert bytes(session._history.origin.head.messages) == b""


@pytest.mark.parametrize("size", [1, 300, 7_900, 9_000])
@pytest.mark.parametrize("turn", [1, 2, 5, 32, 33])
def test_what_is_appended_unseen_is_stored_as_what_is_saved(size, turn):
    """An append turns a full tail into a page without reading it. No page is larger than those of saves."""
    session = Session(session_id="s")
    stored, pages = read_head(compose(session).head, "s"), {}
    for _ in range(20):
        added = [Message("user", "x" * size) for _ in range(turn)]
        session._history.extend(added)

        draft = appended(stored, added, [], KEPT)

        if draft is None:
            assert turn > PAGE_MESSAGES or turn * size > 0.9 * PAGE_BYTES
            return
        assert read_head(draft.head, "s").head == draft.stored.head
        assert not pages.keys() & draft.pages.keys()
        assert all(len(each) <= PAGE_BYTES for each in draft.pages.values())
        pages |= draft.pages
        stored = draft.stored
        keys = page_keys(stored.head.sealed)
        assert sorted(keys) == sorted(pages)
        read = [read_messages(pages[key], key, "s") for key in keys]
        assert list(restore(stored, read, StoppedClock()).messages) == list(session.messages)


@pytest.mark.parametrize("kind", [bytes.decode, bytes, bytearray, memoryview])
def test_a_document_may_come_as_text_or_bytes(kind):
    """Documents may be read as text or bytes."""
    session = Session(session_id="s", messages=[Message("user", "ü", message_id="m", timestamp=NOON)])

    head = kind(compose(session).head)

    assert restore(read_head(head, "s"), [], StoppedClock()) == session


def test_a_document_may_be_formatted_by_hand():
    """White space, the order of fields, and fields with defaults are free in a document."""
    text = '{\n  "state": {"k": 1},\n  "session_id": "s",\n  "format": 1\n}'

    made = restore(read_head(text, "s"), [], StoppedClock())

    assert (made.session_id, made.state, made.message_count) == ("s", {"k": 1}, 0)


SPLIT = "\ud83d\ude00"  # an emoji that was cut in two by a stream, and joined again: in JSON there is no such thing


def test_an_emoji_that_was_cut_in_two_is_stored_as_it_will_be_read():
    """Joined halves of an emoji are equal in the saved and the loaded session."""
    manager = SessionManager({})
    session = manager.create_session(metadata={SPLIT: SPLIT}, state={SPLIT: [SPLIT]})
    session.add_message(SPLIT, SPLIT, name=SPLIT, metadata={SPLIT: SPLIT})

    manager.save(session)

    assert manager.get_session(session.session_id) == session
    assert session.messages[0].content == "\U0001f600"


@pytest.mark.parametrize("name", ["session_id", "user_id"])
def test_a_session_of_any_id_that_was_accepted_can_be_found(name):
    """An id that cannot be read back raises before the write, or is normalized to one that can."""
    manager = SessionManager({})
    try:
        session = manager.create_session(**{name: SPLIT})
    except InvalidValueError:
        return

    assert manager.get_session(session.session_id) == session
    assert name == "session_id" or manager.get_sessions_for_user(SPLIT) == [session]
