"""Tests of messages read from a store, which decode and freeze their fields at the first access."""

import copy
import json
import pickle
from dataclasses import asdict, fields, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import ImmutableError, InvalidDocumentError, KVSessionStore, Message, SessionManager
from pyai_sessions.documents.reading import read_messages, write_messages
from pyai_sessions.testing import NOON
from tests.faults.points import interrupt, stop

TEXTS = st.text(max_size=30) | st.sampled_from(["", "naïve 会话", "\U0001f600", '"\\\n\x00', "\ud800"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.builds(
        Message,
        st.sampled_from(["user", "assistant", "tool"]) | TEXTS,
        TEXTS | JSON,
        metadata=st.dictionaries(TEXTS, JSON, max_size=2),
        timestamp=st.just(NOON),
        tool_calls=st.none() | st.lists(JSON, max_size=2),
        tool_call_id=st.none() | TEXTS,
        name=st.none() | TEXTS,
    ),
    max_size=4,
)
FIELDS = [each.name for each in fields(Message)]

LOOKS = {
    **{name: lambda message, name=name: getattr(message, name) for name in FIELDS},
    "vars": lambda message: {name: value for name, value in vars(message).items() if name[0] != "_"},
    "asdict": asdict,
    "to_dict": lambda message: message.to_dict(),
    "to_json": lambda message: message.to_json(),
    "msgspec": msgspec.json.encode,
    "builtins": msgspec.to_builtins,
    "pickle": lambda message: pickle.loads(pickle.dumps(message)),  # noqa: S301
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "replace": lambda message: replace(message, role="x"),
    "hash": hash,
    "repr": repr,
}


def stored(messages, *, as_text=False):
    """Return messages as a store reads them."""
    page = write_messages(messages)
    return read_messages(page.decode() if as_text else page, "messages/s/g/0", "s")


def shapes(value):
    """Return a value with the classes of its containers, at every depth."""
    if isinstance(value, dict):
        return type(value), {key: shapes(each) for key, each in value.items()}
    return (type(value), [shapes(each) for each in value]) if isinstance(value, list) else (type(value), value)


@given(MESSAGES, st.booleans(), st.lists(st.sampled_from(sorted(LOOKS)), max_size=4))
@settings(max_examples=300)
def test_a_message_that_was_read_is_the_one_that_was_written_however_one_looks(messages, as_text, looks):
    """Any access, in any order, gives the same as on the constructed message."""
    read = stored(messages, as_text=as_text)

    for name in looks:
        for one, other in zip(messages, read, strict=True):
            try:
                expected = LOOKS[name](one)
            except UnicodeEncodeError:  # a lone surrogate, which msgspec itself does not write
                continue
            assert LOOKS[name](other) == expected
    assert write_messages(read) == write_messages(messages)
    assert read == messages
    for one, other in zip(messages, read, strict=True):
        assert [shapes(getattr(one, name)) for name in FIELDS] == [shapes(getattr(other, name)) for name in FIELDS]


PAGE = write_messages(
    [
        Message("user", 'naïve 会话 \U0001f600 "\\', message_id="a", timestamp=NOON),
        Message(
            "assistant", [{"n": [1.5, {}]}], metadata={"é": 10**20}, message_id="b", timestamp=NOON, tool_calls=[{}]
        ),
    ]
)


@given(st.integers(0, len(PAGE) - 1), st.binary(max_size=2), st.integers(0, 2), st.booleans())
@settings(max_examples=1000)
def test_what_can_be_read_can_be_looked_at(at, piece, gone, as_text):
    """Damage is found when the page is read. No later access or save fails."""
    page = PAGE[:at] + piece + PAGE[at + gone :]
    try:
        messages = read_messages(page.decode("utf-8", "surrogatepass") if as_text else page, "messages/s/g/0", "s")
    except (InvalidDocumentError, UnicodeDecodeError):
        return

    assert all(each.to_dict() for each in messages)
    assert stored(messages) == messages


@pytest.mark.parametrize(
    "value", ["[" * 101 + "]" * 101, '{"a":' * 101 + "1" + "}" * 101, "[1e999]", "[" + "9" * 4299 + "]"]
)
@pytest.mark.parametrize("field", ["content", "metadata", "tool_calls"])
def test_what_no_message_can_hold_is_found_when_it_is_read(field, value):
    """JSON that exceeds a message's limits is found when it is read."""
    inner = {"content": value, "metadata": f'{{"a":{value}}}', "tool_calls": f"[{value}]"}[field]
    page = f'[{{"role":"user","timestamp":"2026-01-31T12:00:00Z","message_id":"a","{field}":{inner}}}]'

    with pytest.raises(InvalidDocumentError):
        read_messages(page, "messages/s/g/0", "s")


@pytest.mark.parametrize(
    "value", ["[" * 99 + "]" * 99, "[" + "9" * 4200 + "]", "null", "1.5", '"\\ud83d\\ude00"', '"\\ud800"']
)
def test_what_a_message_can_just_hold_is_read(value):
    """The limits for reading are those for writing."""
    page = f'[{{"role":"user","timestamp":"2026-01-31T12:00:00Z","message_id":"a","content":{value}}}]'

    (message,) = read_messages(page, "messages/s/g/0", "s")

    assert message.content == json.loads(value)
    assert stored([message]) == [message]


@pytest.mark.parametrize("beside", ["", ',"newer":1', ',"name":"\\ud800"'])
def test_a_stored_message_without_a_content_is_an_empty_one(beside):
    """Another program may have stored it so. It is read, also with fields that this release does not know."""
    page = f'[{{"role":"user","timestamp":"2026-01-31T12:00:00Z","message_id":"a"{beside}}}]'

    (message,) = read_messages(page, "messages/s/g/0", "s")

    assert (message.message_id, message.content) == ("a", "")


def test_a_look_that_was_interrupted_is_repeated():
    """If the first access is interrupted anywhere, the next one is complete."""
    made = Message("user", ["naïve"], metadata={"a": [1]}, tool_calls=[{}], timestamp=NOON)
    at, points = 1, 1
    while at <= points:
        (message,) = stored([made])

        tracer, _ = interrupt(lambda message=message: message.content, at, stop, opcodes=True)

        assert message == made
        assert vars(message).keys() >= set(FIELDS)
        points = max(points, tracer.points + 1)
        at += 1
    assert points > 20


@pytest.mark.parametrize("field", FIELDS)
def test_a_message_that_was_read_cannot_be_changed(field):
    """A read message is immutable, before and after the first access."""
    (message,) = stored([Message("user", [{"a": 1}], metadata={"a": [1]}, tool_calls=[{}])])

    for _ in range(2):
        with pytest.raises(ImmutableError):
            setattr(message, field, "x")
        with pytest.raises(ImmutableError):
            delattr(message, field)
        for each in (message.content, message.content[0], message.metadata, message.metadata["a"], message.tool_calls):
            with pytest.raises(ImmutableError):
                each.clear()


def test_a_message_of_a_loaded_session_stays_the_same_object():
    """Repeated access returns the same objects."""
    manager = SessionManager(KVSessionStore({}))
    session = manager.create_session("ada", session_id="s")
    session.add_message("user", [{"type": "text", "text": "é"}])
    manager.save(session)

    messages = manager.get_session("s").messages

    assert messages[0] is messages[-1] is next(iter(messages))
    assert messages[0].content is messages[0].content


def test_a_name_that_no_message_has_is_no_attribute():
    """An unknown attribute raises AttributeError."""
    (message,) = stored([Message("user", "x")])

    for each in (message, Message("user", "x")):
        with pytest.raises(AttributeError, match=r"^'Message' object has no attribute 'contents'"):
            _ = each.contents
