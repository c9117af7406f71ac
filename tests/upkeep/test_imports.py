"""Tests of imports of anything that other programs may have written, in batches."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, Session, SessionManager, SQLiteSessionStore
from pyai_sessions.model.unrepeated import unrepeated
from pyai_sessions.testing import NOON
from tests.contract.stores import SyncStore

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(
        ["", "s", "active", "archived", "2026-01-31T12:00:00Z", "0001-01-01T00:00:00+05:00", "\ud83d\ude00"]
    ),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=6,
)


def full_dict():
    """Return the `to_dict` of a session with a value in every field."""
    session = Session(
        session_id="s", user_id="ada", metadata={"a": [1]}, state={"b": {}}, created_at=NOON, updated_at=NOON
    )
    session.add_message("user", [{"type": "text"}], metadata={"c": 1}, name="ada", timestamp=NOON)
    session.add_message("tool", {"d": None}, tool_calls=[{"id": "1"}], tool_call_id="1", timestamp=NOON)
    session.checkpoint("here")
    return json.loads(session.to_json())


def places(value, path=()):
    """Yield the path to each part of a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from places(each, (*path, key))


PLACES = sorted(places(full_dict()), key=repr)


def with_a_change(path, change):
    """Return the full dict with another value at *path*, or without it if *change* is `...`."""
    if not path:
        return None if change is ... else change
    made = inner = full_dict()
    for key in path[:-1]:
        inner = inner[key]
    if change is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = change
    return made


@pytest.mark.filterwarnings("ignore:'NoneType' object value of non-optional type:RuntimeWarning")  # dataclasses-json's
@pytest.mark.parametrize("kind", ["kept", "foreign"])
@settings(max_examples=600)
@given(path=st.sampled_from(PLACES), change=st.just(...) | JSON)
def test_what_another_program_wrote_is_imported_whole_or_named(kind, path, change):
    """A session with one value changed or missing is stored and can be read, or raises an error that names it."""
    manager = SessionManager({} if kind == "kept" else SyncStore())
    given_dict = with_a_change(path, change)

    refused = None
    try:
        stored = manager.import_sessions([Session(session_id="first", user_id="u"), given_dict]).inserted
    except InvalidValueError as err:
        refused = err.path
    if refused:
        assert refused.startswith(("sessions[1]", "line 2"))
        assert manager.get_session("first").user_id == "u"
        return

    if isinstance(given_dict, str):  # an empty line
        assert (stored, given_dict.strip()) == (1, "")
        return
    assert stored == (1 if given_dict["session_id"] == "first" else 2)
    session = manager.get_session(str(given_dict["session_id"]))
    assert json.loads(json.dumps(session.to_dict())) == session.to_dict()
    assert session.message_count == len(session.messages)
    if kind == "kept":
        assert manager.verify().problems == []
        assert manager.count(status=None) == stored
        assert manager.list_sessions(*([session.user_id] if session.user_id else []), status=None)
    session.status = "active"
    manager.restore(session.session_id)
    manager.append(session.session_id, {"role": "user", "content": "on"})
    assert manager.get_session(session.session_id).messages[-1].content == "on"


def test_big_sessions_are_stored_a_few_at_a_time(tmp_path):
    """A batch also ends after some megabytes."""
    taken, told = 0, []

    def sessions():
        nonlocal taken
        for n in range(40):
            taken += 1
            session = Session(session_id=f"s{n}", user_id="ada")
            for _ in range(8):
                session.add_message("tool", "x" * 64 * 1024)
            yield session

    def progress(done):
        told.append(done)
        assert taken - done <= 1

    with SessionManager(SQLiteSessionStore(tmp_path / "chat.db")) as manager:
        assert manager.import_sessions(sessions(), progress=progress).inserted == 40
        assert manager.verify()
        manager.store.close()

    assert told[-1] == 40
    assert all(after - before < 20 for before, after in zip([0, *told], told, strict=False))


def test_one_session_of_many_megabytes_is_imported():
    """One session may be larger than a batch."""
    session = Session(session_id="s", user_id="ada", messages=[])
    for _ in range(3):
        session.add_message("tool", "x" * 4_000_000)
    manager = SessionManager({})

    assert manager.import_sessions([session, Session(session_id="t")]).inserted == 2

    assert manager.get_session("s") == session


# Ids that stand twice -------------------------------------------------------------------------------------------------


def messages(*ids):
    return [{"message_id": each} for each in ids]


def point(count, last):
    return {"message_count": count, "last_message_id": last}


def test_what_named_a_message_of_a_repeated_id_goes_on_to_name_it():
    """Checkpoints, summaries and branches follow a message that gets a new id."""
    given = {
        "messages": messages("m", "m"),
        "checkpoints": [point(2, "m"), point(2, "other"), point(9, "m")],
        "summary": point(2, "m"),
        "left": [
            {"after": 2, "messages": messages("x"), "checkpoints": [point(2, "m")]},
            {"after": 1, "messages": messages("m"), **point(2, "m")},
            {"after": -1, "messages": messages("m")},
        ],
    }
    before = json.dumps(given)

    assert unrepeated(given) == (
        {
            "messages": messages("m", "m~2"),
            "checkpoints": [point(2, "m~2"), point(2, "other"), point(9, "m")],
            "summary": point(2, "m~2"),
            "left": [
                {"after": 2, "messages": messages("x"), "checkpoints": [point(2, "m~2")]},
                {"after": 1, "messages": messages("m~2"), **point(2, "m~2")},
                {"after": -1, "messages": messages("m")},
            ],
        },
        2,
    )
    assert json.dumps(given) == before


def test_long_ids_that_stand_twice_stay_apart():
    """New ids of long repeated ids stay unique."""
    long = ["x" * 1000 + each for each in "ab"]

    made, _ = unrepeated({"messages": messages(*long, *long), "left": ["none"]})

    assert made == {"messages": messages(*long, "x" * 200 + "~2", "x" * 200 + "~3"), "left": ["none"]}
