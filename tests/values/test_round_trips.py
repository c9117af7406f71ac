"""Tests that any session survives each way out of the process, or raises."""

import copy
import json
import pickle

import pydantic
import pydantic_core
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import (
    KVSessionStore,
    Message,
    MessagePage,
    Session,
    SessionError,
    SessionManager,
    SessionSummary,
    SummaryPage,
    jsonable,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXT, each, max_size=3),
    max_leaves=5,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system"]) | TEXT, "content": JSON},
    optional={
        "metadata": OBJECT,
        "tool_calls": st.lists(JSON, max_size=2),
        "tool_call_id": TEXT,
        "name": TEXT,
        "timestamp": st.datetimes(timezones=st.timezones()),
    },
)
UNKNOWN = st.dictionaries(st.sampled_from(["x-a", "x-b"]), JSON, max_size=2)


@st.composite
def sessions(draw):
    """Return a session with any content, in memory only."""
    made = Session(user_id=draw(st.none() | st.just("ada")), metadata=draw(OBJECT), state=draw(OBJECT))
    for fields in draw(st.lists(MESSAGE, max_size=4)):
        made.add_message(**fields)
    if draw(st.booleans()):
        made.checkpoint("here")
        made.add_message("user", "left")
        made.state["later"] = 1
        made.rewind("here")
    if made.message_count > 1 and draw(st.booleans()):
        made.add_message("user", "to sum up")
        made.compact("a summary")
    if draw(st.booleans()):
        made.archive()
    made.keep_unknown(draw(UNKNOWN))
    for n, each in enumerate(made.messages):
        each.keep_unknown(draw(UNKNOWN) if n == 0 else {})
    return made


def by_pydantic(value, kind):
    adapter = pydantic.TypeAdapter(kind)
    return adapter.validate_json(adapter.dump_json(value))


WAYS = {
    "from_dict": lambda value, kind: kind.from_dict(value.to_dict()),
    "json of to_dict": lambda value, kind: kind.from_dict(json.loads(json.dumps(value.to_dict()))),
    "from_json": lambda value, kind: kind.from_json(value.to_json()),
    "jsonable": lambda value, kind: kind.from_json(json.dumps(value, default=jsonable)),
    "pydantic": by_pydantic,
    "pydantic in Python": lambda value, kind: pydantic.TypeAdapter(kind).validate_python(
        pydantic.TypeAdapter(kind).dump_python(value)
    ),
    "copy": lambda value, _: copy.copy(value),
    "deepcopy": lambda value, _: copy.deepcopy(value),
    "pickle 0": lambda value, _: pickle.loads(pickle.dumps(value, 0)),  # noqa: S301
    "pickle": lambda value, _: pickle.loads(pickle.dumps(value)),  # noqa: S301
}


def all_of(session):
    """Return everything that can be read of a session."""
    return session.to_dict(), session.branches, session.unknown_fields, session.message_count, session.revision


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40)
@given(session=sessions())
def test_a_session_comes_back_whole(way, session):
    """Messages, branches, checkpoints, a summary and unknown fields come back, and so do the parts alone."""
    parts = [*session.messages, *session.branches, *session.checkpoints, *filter(None, [session.summary])]

    back = WAYS[way](session, Session)

    assert back == session
    assert all_of(back) == all_of(session)
    for each in parts:
        made = WAYS[way](each, type(each))
        assert made == each
        assert made.unknown_fields == each.unknown_fields


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40)
@given(session=sessions(), last=st.integers(0, 5))
def test_a_loaded_session_comes_back_or_is_refused(way, session, last):
    """A partly loaded session can be copied and pickled. As JSON, and in pydantic, it raises."""
    manager = SessionManager(KVSessionStore({}, ttl=3600))
    manager.import_sessions([session])
    part = manager.get_session(session.session_id, last=last)
    fork = manager.get_session(manager.fork(session.session_id).session_id)

    assert WAYS[way](fork, Session) == fork
    assert WAYS[way](fork.parent, type(fork.parent)) == fork.parent
    if len(part.messages) == part.message_count:
        assert WAYS[way](part, Session) == part
        return
    try:
        back = WAYS[way](part, Session)
    except (SessionError, pydantic.ValidationError, pydantic_core.PydanticSerializationError) as err:
        assert "is loaded only in part; load all of it with manager.load_history" in str(err)  # noqa: PT017
        return
    assert (back, back.message_count) == (part, part.message_count)
    manager.load_history(back)
    assert back == manager.get_session(session.session_id)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40)
@given(session=sessions(), limit=st.integers(0, 3))
def test_pages_of_lists_come_back_whole(way, session, limit):
    """Pages of summaries and messages keep the cursor, and whether more lies beyond."""
    manager = SessionManager(KVSessionStore({}, ttl=3600))
    manager.import_sessions([session])
    manager.fork(session.session_id)
    summaries = manager.list_sessions(status=None, limit=limit)
    messages = manager.get_messages(session.session_id, limit=limit)

    assert WAYS[way](summaries, SummaryPage) == summaries
    assert WAYS[way](messages, MessagePage) == messages
    assert [WAYS[way](each, SessionSummary) for each in summaries] == summaries
    assert [WAYS[way](each, Message) for each in messages] == messages
