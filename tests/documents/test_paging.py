"""Tests of heads and pages: what is stored where, as a conversation grows and changes."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import Session, SessionManager
from pyai_sessions.documents.writing import PAGE_BYTES, PAGE_MESSAGES
from pyai_sessions.testing import StoppedClock


def pages_of(mapping):
    return {key: json.loads(text) for key, text in mapping.items() if key.startswith("messages/")}


def saved(count, size=1, *, step=None):
    """Return a mapping with a session of *count* messages of *size* characters, saved every *step* messages."""
    mapping = {}
    manager = SessionManager(mapping, clock=StoppedClock())
    session = manager.create_session(session_id="s")
    for n in range(count):
        session.add_message("user", "x" * size, message_id=f"m{n}")
        if step and n % step == 0:
            manager.save(session)
    manager.save(session)
    return mapping


@pytest.mark.parametrize("count", [0, 1, PAGE_MESSAGES - 1, PAGE_MESSAGES])
def test_a_conversation_of_a_page_is_one_json_document(count):
    """`json.loads` and `Session.from_json` read the stored document."""
    mapping = saved(count, step=7)

    assert list(mapping) == ["session/s"]
    document = json.loads(mapping["session/s"])
    assert document["format"] == 1
    assert document["sealed"] == []
    assert document["message_count"] == len(document["messages"]) == count
    assert Session.from_json(mapping["session/s"]) == SessionManager(mapping).get_session("s")


@pytest.mark.parametrize("step", [None, 1, 2, 5, 31, 33, 100])
@pytest.mark.parametrize("count", [33, 64, 65, 200])
def test_older_messages_lie_in_pages_of_at_most_32(count, step):
    """Pages and the tail hold each message once, in order, however many a save adds."""
    mapping = saved(count, step=step)

    head, pages = json.loads(mapping["session/s"]), pages_of(mapping)
    in_order = [pages[f"messages/s/{run['generation']}/{n}"] for run in head["sealed"] for n in range(run["pages"])]
    everything = [each["message_id"] for page in [*in_order, head["messages"]] for each in page]

    assert everything == [f"m{n}" for n in range(count)]
    assert len(in_order) == len(pages)
    assert all(0 < len(page) <= PAGE_MESSAGES for page in in_order)
    assert 0 < len(head["messages"]) <= PAGE_MESSAGES
    assert sum(run["messages"] for run in head["sealed"]) + len(head["messages"]) == head["message_count"] == count


@pytest.mark.parametrize("size", [600, 5000, PAGE_BYTES - 300, PAGE_BYTES, 100_000])
@pytest.mark.parametrize("step", [None, 1, 3])
def test_a_page_holds_at_most_16_kib_of_text_or_a_single_message(size, step):
    """A message larger than a page's limit has its own page."""
    mapping = saved(40, size, step=step)

    for key, text in mapping.items():
        if key.startswith("messages/"):
            assert len(text) <= PAGE_BYTES + PAGE_MESSAGES + 2 or len(json.loads(text)) == 1
    assert [each.message_id for each in SessionManager(mapping).get_session("s").messages] == [
        f"m{n}" for n in range(40)
    ]


def test_a_page_is_written_once():
    """Appending writes the head and new pages, and never changes a page."""
    mapping = {}
    manager = SessionManager(mapping)
    session = manager.create_session(session_id="s")
    before = {}
    for n in range(200):
        session.add_message("user", f"{n}")
        manager.save(session)

        pages = pages_of(mapping)
        assert before.items() <= pages.items()
        before = pages

    assert len(before) >= 200 // PAGE_MESSAGES - 1


@pytest.mark.parametrize("last", range(0, 110, 7))
def test_a_part_of_the_history_is_the_last_of_it(last):
    """`last=n` loads the last n of all messages, on any page."""
    mapping = saved(100, step=9)
    manager = SessionManager(mapping)
    whole = manager.get_session("s")

    part = manager.get_session("s", last=last)

    assert part.message_count == 100
    assert part.messages == whole.messages[max(0, 100 - last) :]
    manager.load_history(part)
    assert part.messages == whole.messages


@pytest.mark.parametrize("at", [0, 1, 31, 32, 33, 63, 64, 70, 99])
def test_a_changed_message_leaves_all_other_pages_as_they_are(at):
    """Changing a message writes its page anew, removes the old one, and touches no other."""
    mapping = saved(100)
    before = pages_of(mapping)
    manager = SessionManager(mapping)
    session = manager.get_session("s")

    session.replace_message(f"m{at}", content="edited")
    manager.save(session)

    after = pages_of(mapping)
    head = json.loads(mapping["session/s"])
    starts = [(run["generation"], run.get("start", 0), run["pages"]) for run in head["sealed"]]
    assert set(after) == {f"messages/s/{name}/{start + n}" for name, start, pages in starts for n in range(pages)}
    assert len(before.keys() - after.keys()) == len(after.keys() - before.keys()) == (at < 96)
    assert all(before.get(key, page) == page for key, page in after.items())
    assert manager.get_session("s") == session
    assert [each.content for each in session.messages].index("edited") == at
    assert sum(each.content == "edited" for each in session.messages) == 1


@given(st.lists(st.sampled_from(["add", "add40", "pop", "drop", "edit", "clear", "save", "part"]), max_size=25))
@settings(max_examples=60)
def test_pages_and_head_always_hold_what_the_session_holds(steps):
    """After any mix of appends, changes and saves, nothing is lost and no page is left over."""
    mapping = {}
    manager = SessionManager(mapping)
    session = manager.create_session(session_id="s")
    numbers = itertools.count()
    for step in [*steps, "save"]:
        if step.startswith("add"):
            for _ in range(40 if step == "add40" else 1):
                session.add_message("user", next(numbers))
        elif step == "pop" and session.messages:
            session.pop()
        elif step == "drop" and session.messages:
            session.remove_message(session.messages[len(session.messages) // 2].message_id)
        elif step == "edit" and session.messages:
            session.replace_message(session.messages[len(session.messages) // 3].message_id, content="edited")
        elif step == "clear":
            session.clear_messages()
        elif step == "part":
            manager.save(session)
            whole = manager.get_session("s")
            session = manager.get_session("s", last=3)
            assert list(session.messages) == whole.messages[-3:]
            manager.load_history(session)
            assert session == whole
        else:
            manager.save(session)

    assert manager.get_session("s") == session
    assert len(pages_of(mapping)) == sum(run["pages"] for run in json.loads(mapping["session/s"])["sealed"])
    assert manager.verify()
