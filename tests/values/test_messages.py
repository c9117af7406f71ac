"""Tests of Message, which is immutable."""

import copy
import json
import os
import pickle
import re
from dataclasses import FrozenInstanceError, replace

import pytest

from pyai_sessions import InvalidValueError, Message, Session, SessionManager
from pyai_sessions.testing import NOON
from pyai_sessions.values.messages import ReadMessage, messages_of, take_drawn
from tests.samples import CALLS, PARTS


@pytest.mark.parametrize(
    "field", ["role", "content", "metadata", "timestamp", "message_id", "tool_calls", "tool_call_id", "name", "new"]
)
def test_a_message_cannot_be_assigned_to(field):
    """Assigning to a field of a message raises."""
    with pytest.raises(FrozenInstanceError):
        setattr(Message("user", "Hello!"), field, "x")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.content[0].update(text="x"),
        lambda m: m.content.append("x"),
        lambda m: m.metadata["tags"].append("x"),
        lambda m: m.metadata.clear(),
        lambda m: Message("user", "no metadata").metadata.update(a=1),
        lambda m: Message("user", "empty metadata", metadata={}).metadata.update(a=1),
        lambda m: messages_of([ReadMessage("user", m.timestamp, "id")])[0].metadata.update(a=1),
        lambda m: m.tool_calls[0]["function"].pop("name"),
    ],
)
def test_a_message_cannot_be_changed_from_within(change):
    """Every container inside a message is immutable."""
    message = Message("user", PARTS, metadata={"tags": ["a"]}, tool_calls=CALLS)
    before = message.to_json()

    with pytest.raises(TypeError, match="replace_message"):
        change(message)

    assert message.to_json() == before


def test_a_message_does_not_follow_what_it_was_made_of():
    """A message copies given lists and dicts."""
    parts, metadata, calls = copy.deepcopy((PARTS, {"tags": ["a"]}, CALLS))
    message = Message("user", parts, metadata=metadata, tool_calls=calls)

    parts.clear()
    metadata["tags"].append("b")
    calls[0].clear()

    assert (message.content, message.metadata, message.tool_calls) == (PARTS, {"tags": ["a"]}, CALLS)


def test_message_ids_are_random_and_do_not_repeat():
    """A made-up message id has 32 random hex digits."""
    ids = {Message("user", "").message_id for _ in range(1000)}

    assert len(ids) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


def test_session_ids_are_random_and_do_not_repeat():
    """A made-up session id is sess_ and 32 random hex digits."""
    ids = {Session().session_id for _ in range(1000)}

    assert len(ids) == 1000
    assert all(re.fullmatch("sess_[0-9a-f]{32}", each) for each in ids)


@pytest.mark.parametrize(
    "given", ["x", "a/b", "..", "%2F", "ü" * 512, "x" * 1024, "\U0001f600" * 256, "\x00", "\ud800"]
)
def test_an_id_is_any_text_of_up_to_a_kibibyte(given):
    """An id is any Unicode text of 1 to 1,024 bytes in UTF-8."""
    session = Session(session_id=given, user_id=given)

    assert session.add_message("user", "", message_id=given).message_id == given
    assert (session.session_id, session.user_id) == (given, given)
    assert session.checkpoint(given).name == given


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "is 0 bytes long"),
        ("x" * 1025, "is 1025 bytes long"),
        ("ü" * 513, "is 1026 bytes long"),
        ("\U0001f600" * 257, "is 1028 bytes long"),
        (7, "is an int"),
        (b"x", "is bytes"),
    ],
    ids=["empty", "1025", "two-byte", "four-byte", "int", "bytes"],
)
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("session_id", lambda given: Session(session_id=given)),
        ("user_id", lambda given: Session(user_id=given)),
        ("message_id", lambda given: Message("user", "", message_id=given)),
        ("message_id", lambda given: Session().add_message("user", "", message_id=given)),
        ("name", lambda given: Session().checkpoint(given)),
    ],
    ids=["session_id", "user_id", "message_id", "add_message", "checkpoint"],
)
def test_what_cannot_be_an_id_is_refused(name, make, given, problem):
    """The error names the id's kind, what it is, and what is accepted."""
    with pytest.raises(InvalidValueError) as caught:
        make(given)

    assert str(caught.value).startswith(f"{name} {problem}; it is text")
    assert caught.value.path == name


@pytest.mark.parametrize("role", ["user", "assistant", "system", "tool", "developer", "function", "", "\U0001f916"])
def test_a_role_is_free_text(role):
    """A role may be any text."""
    assert Message(role, "").role == role


@pytest.mark.parametrize("field", ["role", "name", "tool_call_id"])
def test_a_text_field_refuses_what_is_no_text(field):
    """The error names the field and the value's type."""
    with pytest.raises(InvalidValueError, match=f"^{field} is an int; it is text$"):
        Message(**{"role": "user", "content": "", field: 1})


@pytest.mark.parametrize("content", ["", "text", PARTS, {"result": [1, None]}, None, 0, 1.5, True, [], {}], ids=repr)
def test_content_is_any_json(content):
    """Content may be any JSON: text, parts, a tool's result, None."""
    assert Message("tool", content).content == content


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"content": {1}}, "content"),
        ({"content": [{"a": {1}}]}, "content[0]['a']"),
        ({"metadata": {"a": {1}}}, "metadata['a']"),
        ({"metadata": {1: "a"}}, "metadata"),
        ({"metadata": ["a"]}, "metadata"),
        ({"metadata": None}, "metadata"),
        ({"tool_calls": [{1}]}, "tool_calls[0]"),
        ({"tool_calls": "call"}, "tool_calls"),
        ({"tool_calls": {}}, "tool_calls"),
        ({"timestamp": "2026-01-31T12:00:00"}, "timestamp"),
        ({"timestamp": NOON.replace(tzinfo=None)}, "timestamp"),
    ],
    ids=repr,
)
def test_a_field_that_cannot_be_stored_is_refused_when_the_message_is_made(fields, path):
    """An invalid field raises when the message is made, and names the part."""
    session = Session()

    with pytest.raises(InvalidValueError) as caught:
        session.add_message("user", **{"content": "", **fields})

    assert caught.value.path == path
    assert session.message_count == 0


def test_messages_are_equal_when_all_fields_are():
    """Messages with equal fields are equal, and have equal hashes."""
    one, other, third = (Message("user", text, timestamp=NOON, message_id="m") for text in ("a", "a", "b"))

    assert one == other
    assert one != third
    assert len({one, other, third}) == 2


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copied_message_is_equal(duplicate):
    """A copy of a message is equal to it."""
    message = Message("user", PARTS, metadata={"a": 1}, tool_calls=CALLS)

    assert duplicate(message) == message


def test_only_a_new_message_has_an_id_that_no_store_can_know():
    """A copied, pickled, parsed or used message may be stored already, so its id is looked up."""
    message = Message("user", "x")
    again = pickle.loads(pickle.dumps(message))  # noqa: S301 (our own)
    others = [again, copy.copy(message), replace(message), Message.from_dict(message.to_dict()), Message(**vars(again))]

    assert [take_drawn(each) for each in others] == [False] * len(others)
    assert type(message.message_id) is str
    assert [take_drawn(message), take_drawn(message)] == [True, False]
    assert vars(message) == vars(again)


@pytest.mark.parametrize("given", [{"role": "user", "parts": [{"text": "x"}]}, {"role": "assistant", "text": "x"}])
@pytest.mark.parametrize(
    ("read", "place"),
    [
        (Message.from_dict, "content"),
        (lambda each: Message.from_json(json.dumps(each)), "content"),
        (lambda each: Session.from_dict({"session_id": "s", "messages": [each]}), "messages[0].content"),
        (lambda each: Session.from_json(json.dumps({"messages": [each]})), "messages[0].content"),
        (
            lambda each: SessionManager().import_sessions([{"session_id": "s", "messages": [each]}]),
            "sessions[0].messages[0].content",
        ),
    ],
)
def test_a_given_message_without_a_content_is_refused(given, read, place):
    """The error names what is missing. One with tool calls has none; nor has any whose gaps are to be filled."""
    with pytest.raises(InvalidValueError, match=r"content is missing, .*add_messages") as refused:
        read(given)

    assert refused.value.path == place
    read({**given, "tool_calls": CALLS})
    assert Message.from_dict(given, infer_missing=True).content == ""


def test_a_forked_process_does_not_take_its_parents_message_for_new():
    """After a fork, a message of the parent does not count as new."""
    message = Message("user", "x")
    child = os.fork()
    if not child:
        os._exit(take_drawn(message))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert take_drawn(message)
