"""Values that calls accept: each is kept as it is, or raises an error that names it."""

import json
import uuid
from datetime import date, datetime, timedelta, timezone
from enum import Enum

import pytest

from pyai_sessions import (
    InvalidValueError,
    KVSessionStore,
    Message,
    Session,
    SessionManager,
    SessionNotFoundError,
    SessionStateError,
    jsonable,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


class OtherTime(datetime):
    """A datetime of another library, as pandas, pendulum and freezegun have."""


class Colour(str, Enum):
    RED = "red"


# Times --------------------------------------------------------------------------------------------------------------

TIMES = {
    "seconds": NOON.timestamp(),
    "whole seconds": int(NOON.timestamp()),
    "text": "2026-01-31T12:00:00Z",
    "text with an offset": "2026-01-31T17:30:00+05:30",
    "text with a short fraction": "2026-01-31T12:00:00.0Z",
    "another zone": NOON.astimezone(timezone(timedelta(hours=-8))),
    "another class": OtherTime(2026, 1, 31, 12, tzinfo=timezone.utc),
    "another class in another zone": OtherTime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1))),
}

NO_TIMES = {
    "without a zone": (datetime(2026, 1, 31), "has no time zone"),  # noqa: DTZ001
    "text without a zone": ("2026-01-31T12:00:00", "has no time zone"),
    "a day": ("2026-01-31", "has no time zone"),
    "a date": (date(2026, 1, 31), "is a datetime.date"),
    "words": ("at noon", "is text that names no time"),
    "milliseconds": (NOON.timestamp() * 1000, "is outside of the years 1 to 9999"),
    "no number": (float("nan"), "is nan"),
    "a bool": (True, "is a bool"),
    "bytes": (b"2026-01-31T12:00:00Z", "is bytes"),
    "beyond all years": ("0001-01-01T00:00:00+05:00", "is outside of the years 1 to 9999"),
}


def with_time(manager, door, time):
    """Pass a time to a call, and return the time that is stored."""
    if door == "Session":
        manager.save(Session(session_id="s", created_at=time))
        return manager.get_session("s").created_at
    if door == "import":
        manager.import_sessions([{"session_id": "s", "created_at": time, "messages": []}])
        return manager.get_session("s").created_at
    if door == "import of a message":
        manager.import_sessions(
            [{"session_id": "s", "messages": [{"role": "user", "content": "x", "timestamp": time}]}]
        )
    elif door == "Message":
        manager.append(manager.create_session(session_id="s").session_id, Message("user", "x", timestamp=time))
    elif door == "append":
        manager.append(
            manager.create_session(session_id="s").session_id, {"role": "user", "content": "x", "timestamp": time}
        )
    elif door == "add_messages":
        session = manager.create_session(session_id="s")
        session.add_messages([{"role": "user", "content": "x", "timestamp": time}])
        manager.save(session)
    elif door == "add_message":
        session = manager.create_session(session_id="s")
        session.add_message("user", "x", timestamp=time)
        manager.save(session)
    return manager.get_session("s").messages[0].timestamp


DOORS = ["Session", "import", "import of a message", "Message", "append", "add_message", "add_messages"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", TIMES)
def test_a_time_is_taken_in_any_form_that_names_it(door, name):
    """A datetime with a zone, ISO text with a zone, and seconds since 1970 are accepted by every call."""
    stored = with_time(SessionManager(), door, TIMES[name])

    assert stored == NOON
    assert type(stored) is datetime
    assert stored.tzinfo is timezone.utc


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", NO_TIMES)
def test_what_names_no_time_is_refused_by_field_and_place(door, name):
    """The error names the field, its place and the accepted forms. Nothing is stored."""
    time, problem = NO_TIMES[name]
    field = "created_at" if door in ("Session", "import") else "timestamp"
    place = {
        "import": "sessions[0].",
        "import of a message": "sessions[0].messages[0].",
        "append": "messages[0].",
        "add_messages": "items[0].",
    }
    manager = SessionManager()

    with pytest.raises(InvalidValueError) as caught:
        with_time(manager, door, time)

    assert caught.value.path == place.get(door, "") + field
    assert str(caught.value).startswith(f"{place.get(door, '')}{field} {problem}")
    assert "seconds since 1970" in str(caught.value)
    assert not any(manager.list_sessions(limit=None)) or manager.get_session("s").message_count == 0


def test_lists_take_times_in_any_form():
    """`before=` and `since=` accept the same times as messages."""
    manager = SessionManager(clock=lambda: NOON)
    manager.append(manager.create_session("ada", session_id="s").session_id, {"role": "user", "content": "x"})

    later = (NOON + timedelta(seconds=1)).timestamp()

    assert len(manager.get_sessions_for_user("ada", before=later)) == 1
    assert len(manager.get_sessions_for_user("ada", before="2026-01-31T11:00:00Z")) == 0
    assert len(manager.get_session("s").history(since=NOON.timestamp())) == 1
    assert manager.get_session("s").history(since=later) == []


def test_a_clock_of_another_class_is_stored_as_any_time():
    """A clock may return a subclass of datetime, as libraries for tests do."""
    store = KVSessionStore({}, ttl=100, clock=lambda: OtherTime(2026, 1, 31, 12, tzinfo=timezone.utc))
    manager = SessionManager(store)
    session = manager.create_session("ada", session_id="s")
    session.add_message("user", "x")
    session.checkpoint("here")
    manager.save(session)
    manager.append("s", {"role": "assistant", "content": "y"})
    manager.fork("s", new_id="t")
    session = manager.get_session("s")
    session.rewind(1)
    session.compact("They met.") if session.message_count else None
    manager.save(session)
    manager.archive("t")
    manager.restore("t")
    session = manager.get_session("s")

    assert session.expires_at == NOON + timedelta(seconds=100)
    assert type(session.updated_at) is type(session.expires_at) is type(session.branches[0].created_at) is datetime
    assert manager.verify().problems == []


@pytest.mark.parametrize(
    ("clock", "problem"),
    [
        (datetime.now, "clock() has no time zone"),
        (lambda: 5j, "clock() is a complex"),
        (NOON, "clock is a datetime.datetime; it is a function that returns the current time"),
    ],
)
def test_a_clock_that_tells_no_time_is_refused_when_it_is_given(clock, problem):
    """A clock without a zone raises when the manager is made."""
    with pytest.raises(InvalidValueError) as caught:
        SessionManager(clock=clock)

    assert str(caught.value).startswith(problem)


# Ids ----------------------------------------------------------------------------------------------------------------

# What is no id, with what an error says to give in its place; None: it proposes nothing.
IDS = {
    "a number": (5, "str({})"),
    "a UUID": (uuid.UUID(int=5), "str({})"),
    "bytes": (b"ada", "{}.decode()"),
    "true": (True, None),
    "a float": (1.5, None),
    "a list": (["ada"], None),
    "a dict": ({"user_id": "ada"}, None),
    "an exception": (ValueError("ada"), None),
    "a session": (Session(session_id="s", user_id="ada"), "give its {}"),
    "a message": (Message("user", "x", message_id="m"), "give its {}"),
}

ID_DOORS = {
    "create_session": lambda m, i: m.create_session(i),
    "get_or_create_session": lambda m, i: m.get_or_create_session("s", i),
    "Session": lambda m, i: m.save(Session(user_id=i)),
    "assignment": lambda m, i: setattr(m.create_session(), "user_id", i),
    "import_sessions": lambda m, i: m.import_sessions([{"session_id": "s", "user_id": i}]),
    "from_dict": lambda m, i: Session.from_dict({"session_id": "s", "user_id": i}),
    "from_json": lambda m, i: Session.from_json(json.dumps({"session_id": "s", "user_id": i})),
    "session_id": lambda m, i: m.create_session(session_id=i),
    "import of a session_id": lambda m, i: m.import_sessions([{"session_id": i}]),
    "message_id": lambda m, i: m.create_session().add_message("user", "x", message_id=i),
    "import of a message_id": lambda m, i: m.import_sessions(
        [{"session_id": "s", "messages": [{"role": "user", "content": "x", "message_id": i}]}]
    ),
    "list_sessions": lambda m, i: m.list_sessions(i),
    "get_session": lambda m, i: m.get_session(i),
}


@pytest.mark.parametrize(
    ("door", "kind"),
    [(door, kind) for door in ID_DOORS for kind in IDS if door != "from_json" or isinstance(IDS[kind][0], (int, list))],
)
def test_an_id_is_text_at_every_door(door, kind):
    """What is no text raises at every call. `str` of it is the remedy only where that is the one text that it has."""
    value, remedy = IDS[kind]

    with pytest.raises(InvalidValueError, match=r"_id is ") as caught:
        ID_DOORS[door](SessionManager(), value)

    assert caught.value.path.endswith("_id")
    name = caught.value.path.rpartition(".")[2]
    if remedy == "give its {}" and not hasattr(value, name):
        remedy = None
    said = "; it is text" if remedy is None else f"; it is text: {remedy.format(name)}"
    assert caught.value.problem.endswith((said, f"{said} (session 's')"))


NO_ID_DOORS = {
    "get_sessions_for_user": (
        lambda m: m.get_sessions_for_user(None),
        "user_id is None; it is text: give the id of a user",
    ),
    "delete_user": (lambda m: m.delete_user(None), "user_id is None; it is text: give the id of a user"),
    "user_state": (lambda m: m.user_state(None), "user_id is None; it is text: give the id of a user"),
    "update_user_state": (
        lambda m: m.update_user_state(None, {}),
        "user_id is None; it is text: give the id of a user",
    ),
    "list_sessions": (lambda m: m.list_sessions(None), "user_id is None; give the id of the user whose it must be, or"),
    "get_or_create_session": (
        lambda m: m.get_or_create_session(None),
        "session_id is None; it is text; create_session() draws",
    ),
    "update": (lambda m: m.update(None, create=True), "session_id is None; it is text; create_session() draws"),
    "Session": (lambda m: m.save(Session(session_id=None)), "session_id is None; it is text; create_session() draws"),
    "Message": (lambda _: Message("user", message_id=None), "message_id is None; it is text; leave it out to have"),
    "replace_message": (lambda m: m.replace_message("s", None), "message_id is None; it is a message of the session"),
    "redact": (lambda m: m.redact("s", None), "message_id is None; it is a message of the session, or its id"),
}


@pytest.mark.parametrize("door", NO_ID_DOORS)
def test_none_as_an_id_is_refused_and_str_of_it_is_not_the_remedy(door):
    """`str(None)` would make everyone the user "None": the error says what to give, or that it can be left out."""
    act, said = NO_ID_DOORS[door]

    with pytest.raises(InvalidValueError) as caught:
        act(SessionManager())

    assert str(caught.value).startswith(said)
    assert "str(" not in str(caught.value)


def test_text_of_another_class_is_kept_as_text():
    """A member of a `str` Enum is stored as its text."""
    manager = SessionManager()
    session = manager.create_session(Colour.RED, session_id="s", metadata={Colour.RED: Colour.RED})
    session.add_message(Colour.RED, Colour.RED, message_id=Colour.RED, name=Colour.RED)
    manager.save(session)

    assert manager.get_session("s") == session
    message = session.messages[0]
    kept = (session.user_id, *session.metadata.items(), message.role, message.content, message.message_id, message.name)
    assert {type(each) for each in kept[:1] + kept[2:]} == {str}
    assert manager.list_sessions("red")[0].user_id == "red"


@pytest.mark.parametrize("no_id", ["x" * 5000, "", "\u20ac" * 342], ids=["long", "empty", "many bytes"])
def test_a_text_that_no_session_can_have_for_its_id_is_not_found(no_id):
    """A text that cannot be an id, as from a URL, is not found."""
    manager = SessionManager()

    assert manager.get_session(no_id) is None
    assert manager.delete(no_id) is False
    for act in (
        lambda: manager.append(no_id, {"role": "user", "content": "x"}),
        lambda: manager.archive(no_id),
        lambda: manager.restore(no_id),
        lambda: manager.fork(no_id),
        lambda: manager.switch(no_id, "b"),
    ):
        with pytest.raises(SessionNotFoundError) as caught:
            act()
        assert len(str(caught.value)) < 500


def test_no_id_finds_no_session():
    """None as an id, as from an absent cookie, is not found."""
    assert SessionManager().get_session(None) is None


# Own shapes ---------------------------------------------------------------------------------------------------------


def test_the_dict_of_a_message_can_be_appended():
    """`append` accepts what `Message.to_dict` returns, and its JSON."""
    manager, message = SessionManager(), Message("user", "x", metadata={"a": 1}, timestamp=NOON)
    manager.create_session(session_id="s")

    manager.append("s", message.to_dict())

    assert manager.get_session("s").messages == [message]


def test_a_message_stands_for_its_id():
    """A call that accepts a message's id accepts the message."""
    session = Session()
    one, two, three = (session.add_message("user", text) for text in ("one", "two", "three"))

    session.replace_message(one, content="first")
    session.insert_message(two, "user", "between")
    session.remove_message(three)

    assert [each.content for each in session.messages] == ["first", "between", "two"]
    assert [each["content"] for each in session.history(since=two)] == ["two"]
    session.rewind(one)
    assert session.message_count == 1
    with pytest.raises(SessionStateError, match="has no message"):
        session.remove_message(three)


def test_a_fork_begins_at_a_message():
    """`fork(at=...)` accepts a message."""
    manager = SessionManager()
    session = manager.create_session(session_id="s")
    one, _ = session.add_message("user", "one"), session.add_message("user", "two")
    manager.save(session)

    assert manager.fork("s", at=one).messages == [one]


# Imports ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "path", "problem"),
    [
        ({"messages": []}, "session_id", "is missing"),
        ({"session_id": "s", "messages": [{"content": "x"}]}, "messages[0].role", "is missing"),
        ({"session_id": "s", "messages": [{"role": 5, "content": "x"}]}, "messages[0].role", "is an int; it is text"),
        ({"session_id": "s", "messages": ["x"]}, "messages[0]", "is a str; it is a JSON object"),
        ({"session_id": "s", "messages": {}}, "messages", "is a dict; it is a list"),
        ({"session_id": "s", "messages": None}, "messages", "is null"),
        ({"session_id": "s", "metadata": 5}, "metadata", "is an int; it is a dict with text keys"),
        ({"session_id": "s", "state": {"a": {1}}}, "state['a']", "is a set, which JSON cannot hold"),
        ({"session_id": "s", "status": "gone"}, "status", "is 'gone'; it is 'active' or 'archived'"),
        (
            {"session_id": "s", "checkpoints": [{"name": "c", "message_count": "2"}]},
            "checkpoints[0].message_count",
            "is '2'; it is a whole number",
        ),
        ({"session_id": "s", "parent": {"session_id": "t"}}, "parent.message_count", "is missing"),
        ({"session_id": "s", "summary": 5}, "summary", "is an int; it is a JSON object"),
        ({"session_id": "s", "left": [{}]}, "left[0].message_count", "is missing"),
        ({"session_id": "s", "left": 5}, "left", "is an int; it is a list"),
        (5, "", "is an int; it is a Session, its to_dict(), or a line of JSON"),
    ],
    ids=repr,
)
def test_an_import_names_session_and_field(given, path, problem):
    """The error gives the session's number and id, the field, and what is accepted."""
    with pytest.raises(InvalidValueError) as caught:
        SessionManager().import_sessions([Session(session_id="first"), given])

    place = f"sessions[1].{path}" if path else "sessions[1]"
    assert caught.value.path == place
    assert str(caught.value).startswith(f"{place} {problem}")
    assert str(caught.value).endswith(" (session 's')") == (isinstance(given, dict) and "session_id" in given)


@pytest.mark.parametrize("default", [None, jsonable])
def test_what_an_import_leaves_out_is_named_by_its_number_and_its_id(default):
    """With `skip_invalid`, the report gives the number and id of each session left out."""
    manager = SessionManager(default=default)
    manager.update("part", *[{"role": "user", "content": "x"}] * 100, create=True)
    sessions = [
        manager.get_session("part", last=0),
        {"session_id": "set", "state": {"a": object()}},
        '{"session_id": "line", "status": 3}',
        "x",
    ]

    problems = manager.import_sessions(sessions, skip_invalid=True).problems

    named = [("sessions[0].messages", "part"), ("sessions[1]", "set"), ("line 3.status", "line")]
    for problem, (place, session_id) in zip(problems, named, strict=False):
        assert problem.startswith(place)
        assert problem.endswith(f" (session '{session_id}')")
    assert [each.startswith("line 4 is not JSON") for each in problems] == [False, False, False, True]


@pytest.mark.parametrize("text", ["", "{", b"\xff", "[]", "nul", "5", '{"session_id": NaN}', "[" * 100_000, None, 5])
@pytest.mark.parametrize("kind", [Session, Message])
def test_text_that_is_no_session_is_refused(kind, text):
    """`from_json` raises our own error for any invalid text."""
    with pytest.raises(InvalidValueError):
        kind.from_json(text)
