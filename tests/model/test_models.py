"""Tests of Session, Checkpoint and SessionSummary."""

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from pyai_sessions import (
    Checkpoint,
    InvalidValueError,
    Message,
    Session,
    SessionManager,
    SessionStatus,
    SessionSummary,
)
from pyai_sessions.testing import NOON
from tests.samples import CALLS, PARTS

SECRET = "the patient's name"


# State, metadata, status ------------------------------------------------------------------------------------------


def test_state_is_set_read_and_deleted(session):
    """An absent key reads as the default."""
    session.set_state("topic", {"name": "PYAI"})

    assert session.get_state("topic") == {"name": "PYAI"}
    session.delete_state("topic")
    assert session.get_state("topic") is None
    assert session.get_state("topic", "none") == "none"


def test_deleting_state_that_is_not_there_is_fine(session):
    """Deleting an absent key changes nothing, not even the session's time."""
    before = session.updated_at

    session.delete_state("absent")

    assert session.updated_at == before


def test_a_set_state_does_not_follow_what_was_given(session):
    """The session copies a given value."""
    given = [1]
    session.set_state("list", given)

    given.append(2)

    assert session.get_state("list") == [1]


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [("cursor", {1}, "state['cursor']"), ("a", [0, {"b": {1}}], "state['a'][1]['b']"), (7, 1, "key")],
)
def test_a_state_that_json_cannot_hold_is_refused_and_changes_nothing(session, key, value, path):
    """The error names the part. State and time stay."""
    before = session.updated_at

    with pytest.raises(InvalidValueError) as caught:
        session.set_state(key, value)

    assert caught.value.path == path
    assert session.state == {}
    assert session.updated_at == before


@pytest.mark.parametrize("field", ["metadata", "state"])
def test_metadata_and_state_are_json_objects(field):
    """Metadata and state that are not JSON objects raise when the session is made."""
    for given, problem in [([1], "is a list; it is"), (None, "is None; it is"), ({1: 2}, "has the key 1")]:
        with pytest.raises(InvalidValueError, match=f"^{field} {problem}"):
            Session(**{field: given})


def test_a_session_does_not_follow_what_it_was_made_of():
    """Metadata and state are deep copies."""
    metadata, state = {"tags": ["a"]}, {"deep": {"x": [1]}}
    session = Session(metadata=metadata, state=state)

    metadata["tags"].append("b")
    state["deep"]["x"].append(2)

    assert (session.metadata, session.state) == ({"tags": ["a"]}, {"deep": {"x": [1]}})


def test_a_new_session_is_active_and_empty():
    """A new session has no messages, state or revision, and two equal times."""
    session = Session()

    assert session.status is SessionStatus.ACTIVE
    assert (session.user_id, session.metadata, session.state, session.message_count) == (None, {}, {}, 0)
    assert session.revision is None
    assert session.checkpoints == []


def test_archive_marks_the_session(session):
    """`archive` sets the status, which is also text."""
    session.archive()

    assert session.status is SessionStatus.ARCHIVED
    assert session.status == "archived"
    assert str(session.status) == "archived"


def test_a_status_may_be_given_as_text_and_nothing_else():
    """A status may be text. An invalid one raises an error with the given and the accepted ones."""
    assert Session(status="archived").status is SessionStatus.ARCHIVED
    with pytest.raises(InvalidValueError, match="status is 'gone'; it is 'active' or 'archived'"):
        Session(status="gone")


# Times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("timestamp", lambda t: Message("user", "", timestamp=t).timestamp),
        ("created_at", lambda t: Session(created_at=t).created_at),
        ("updated_at", lambda t: Session(updated_at=t).updated_at),
        ("created_at", lambda t: Checkpoint("c", 0, created_at=t).created_at),
    ],
    ids=["timestamp", "created_at", "updated_at", "checkpoint"],
)
def test_times_are_aware_and_in_utc(name, make):
    """A time of another zone is converted. A naive one raises."""
    made = make(datetime(2026, 1, 31, 17, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))))

    assert made == NOON
    assert made.tzinfo is timezone.utc
    with pytest.raises(InvalidValueError, match=rf"^{name} has no time zone; pass an aware datetime: datetime\.now"):
        make(datetime(2026, 1, 31, 12))  # noqa: DTZ001
    with pytest.raises(InvalidValueError, match=f"^{name} is a list; it is a datetime with a time zone"):
        make([])


def test_default_times_are_now_in_utc():
    """Default times are the present time in UTC."""
    before = datetime.now(timezone.utc)
    session = Session()
    message = session.add_message("user", "")
    after = datetime.now(timezone.utc)

    assert before <= session.created_at <= message.timestamp <= after
    assert session.created_at.tzinfo is session.updated_at.tzinfo is message.timestamp.tzinfo is timezone.utc


CHANGES = {
    "add_message": lambda s: s.add_message("user", ""),
    "set_state": lambda s: s.set_state("k", 2),
    "delete_state": lambda s: s.delete_state("there"),
    "checkpoint": lambda s: s.checkpoint("c2"),
    "rewind": lambda s: s.rewind("c"),
    "pop": lambda s: s.pop(),
    "replace_message": lambda s: s.replace_message("m1", content=""),
    "remove_message": lambda s: s.remove_message("m1"),
    "clear_messages": lambda s: s.clear_messages(),
}


@pytest.mark.parametrize("seconds", [3600, 0, -3600], ids=["forward", "still", "backward"])
@pytest.mark.parametrize("change", CHANGES)
def test_updated_at_goes_forward_whatever_the_clock_does(session, clock, change, seconds):
    """Each change has a later time, even if the clock stands still or goes back."""
    session.set_state("there", 1)
    session.checkpoint("c")
    before = session.updated_at
    clock.advance(seconds=seconds)

    CHANGES[change](session)

    assert session.updated_at > before
    assert session.updated_at == max(clock.now, before + timedelta(microseconds=1))
    assert session.created_at == NOON


# JSON -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(session):
    """A session with a value in every field."""
    session.metadata.update(title="Rome", tags=["a", {"b": None}])
    session.set_state("cursor", {"page": 2})
    session.checkpoint("c")
    session.add_message("assistant", None, tool_calls=CALLS, metadata={"ms": 5})
    session.add_message("tool", {"temp": 21.5}, tool_call_id="call_1", name="weather")
    session.add_message("user", PARTS)
    session.add_message("user", "\x00 \ud800 \U0001f600")
    session.archive()
    return session


def test_a_session_comes_back_equal_from_its_json(full):
    """`from_json` restores every field with its type."""
    made = Session.from_json(full.to_json())

    assert made == full
    assert isinstance(made.messages[0], Message)
    assert isinstance(made.checkpoints[0], Checkpoint)
    assert made.status is SessionStatus.ARCHIVED
    assert made.messages[0].timestamp == NOON
    assert made.messages[0].timestamp.tzinfo is timezone.utc


def test_a_session_comes_back_equal_from_its_dict(full):
    """`to_dict` returns JSON values, and `from_dict` restores the session."""
    as_dict = full.to_dict()

    assert json.loads(json.dumps(as_dict)) == as_dict
    assert Session.from_dict(as_dict) == full


def test_the_json_of_a_session_is_one_documented_object():
    """The JSON has field names, times in ISO 8601 with a Z, and a status as text."""
    message = Message("user", "Hello!", timestamp=NOON + timedelta(microseconds=1), message_id="m")
    session = Session(session_id="s", user_id="ada", created_at=NOON, updated_at=NOON, messages=[message])

    assert json.loads(session.to_json()) == {
        "format": 1,
        "session_id": "s",
        "user_id": "ada",
        "metadata": {},
        "state": {},
        "status": "active",
        "created_at": "2026-01-31T12:00:00Z",
        "updated_at": "2026-01-31T12:00:00Z",
        "checkpoints": [],
        "messages": [
            {
                "role": "user",
                "content": "Hello!",
                "metadata": {},
                "timestamp": "2026-01-31T12:00:00.000001Z",
                "message_id": "m",
                "tool_calls": None,
                "tool_call_id": None,
                "name": None,
            }
        ],
        "message_count": 1,
    }


def test_to_json_takes_the_options_of_json_dumps(full):
    """`to_json` takes the options of `json.dumps`."""
    assert full.to_json(indent=2, sort_keys=True).startswith('{\n  "checkpoints"')


def test_a_dict_of_a_session_is_the_caller_s_own(full):
    """Changing the dict does not change the session."""
    before = full.to_json()
    as_dict = full.to_dict()

    as_dict["metadata"]["tags"].append("x")
    as_dict["state"]["cursor"].clear()
    as_dict["messages"].clear()

    assert full.to_json() == before


@pytest.mark.parametrize("kind", [Message, Checkpoint])
def test_a_part_comes_back_equal_from_its_json_and_dict(full, kind):
    """Messages and checkpoints have the same methods."""
    for each in full.messages if kind is Message else full.checkpoints:
        assert kind.from_json(each.to_json()) == each
        assert kind.from_dict(each.to_dict()) == each


def test_a_schema_reads_what_it_wrote(full):
    """dataclasses-json's marshmallow schemas work for each class."""
    for each in (full, full.messages[3], full.checkpoints[0]):
        schema = type(each).schema()

        assert schema.loads(schema.dumps(each)) == each


def test_a_schema_reads_what_to_json_wrote(full):
    """The schema reads the JSON of `to_json`."""
    for each in (full, full.messages[3], full.checkpoints[0]):
        assert type(each).schema().loads(each.to_json()) == each


def test_a_schema_says_what_is_wrong():
    """A schema reports what is wrong in its input."""
    errors = Session.schema().validate({"session_id": 7, "updated_at": "yesterday", "messages": [{"role": 1}]})

    assert {"session_id", "updated_at", "messages"} <= errors.keys()


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00", "2026-01-31T13:00:00+01:00"])
def test_times_are_read_in_any_zone(text):
    """ISO 8601 times of any zone are read."""
    assert Message.from_dict({"role": "user", "content": "", "timestamp": text}).timestamp == NOON


def test_absent_fields_have_their_defaults():
    """Absent fields of a session written by hand have defaults."""
    session = Session.from_json('{"session_id": "s", "messages": [{"role": "user", "content": "Hello!"}]}')

    assert session.session_id == "s"
    assert session.messages[0].content == "Hello!"
    assert (session.user_id, session.metadata, session.state) == (None, {}, {})


def with_unknown_fields(full):
    as_dict = full.to_dict()
    as_dict["language"] = {"code": "it"}
    as_dict["messages"][1]["reactions"] = ["+1"]
    as_dict["checkpoints"][0]["label"] = "L"
    return as_dict


def test_unknown_fields_survive_a_round_trip(full):
    """Unknown fields of a session, message or checkpoint are kept."""
    given = with_unknown_fields(full)

    made = Session.from_dict(given)

    assert made.to_dict() == given
    assert Session.from_json(made.to_json()).to_dict() == given


def test_unknown_fields_stay_when_the_session_changes(full):
    """Unknown fields stay when the session changes, and a replaced message keeps its own."""
    made = Session.from_dict(with_unknown_fields(full))

    made.replace_message("m1", content="edited")
    made.add_message("user", "more")
    as_dict = made.to_dict()

    assert as_dict["messages"][1]["reactions"] == ["+1"]
    assert as_dict["messages"][1]["content"] == "edited"
    assert as_dict["language"] == {"code": "it"}
    assert as_dict["checkpoints"][0]["label"] == "L"


@pytest.mark.parametrize("given", [[], "text", None, 7])
@pytest.mark.parametrize("kind", [Session, Message, Checkpoint])
def test_what_is_no_json_object_is_refused(kind, given):
    """The error names the class and what was given."""
    with pytest.raises(InvalidValueError, match=f"^{kind.__name__} is made from a JSON object, not from "):
        kind.from_dict(given)


def test_a_number_without_end_is_refused():
    """1e999, which Python reads as infinity, raises."""
    with pytest.raises(InvalidValueError, match="message_count is inf; it is a whole number"):
        Checkpoint.from_dict({"name": "c", "message_count": float("inf")})


def test_a_newer_format_is_refused():
    """A newer format raises, since reading it would lose data."""
    with pytest.raises(InvalidValueError, match="format is 2; this release reads format 1"):
        Session.from_dict({"format": 2, "session_id": "s"})


def test_a_head_whose_older_messages_lie_elsewhere_is_refused():
    """A head with pages cannot be read as a whole session."""
    with pytest.raises(InvalidValueError, match="sealed names pages that hold the older messages; load it through"):
        Session.from_dict({"format": 1, "sealed": [{"owner": "s", "generation": "g", "pages": 1, "messages": 32}]})


# What ends up in logs ---------------------------------------------------------------------------------------------


def everything_secret():
    session = Session(session_id="s", user_id="ada", metadata={"title": SECRET}, state={SECRET: SECRET})
    session.add_message("user", SECRET, metadata={"note": SECRET})
    session.add_message("assistant", [{"text": SECRET}], tool_calls=[{"arguments": SECRET}])
    session.checkpoint("c")
    return session


def test_a_repr_shows_no_conversation_text():
    """A repr has only ids and sizes."""
    session = everything_secret()
    summary = SessionSummary("s", "ada", session.metadata, 2, session.status, NOON, NOON, NOON, title="My words")

    shown = [repr(session), repr(session.messages), repr(session.checkpoints), repr(summary)]
    shown += [repr(each) for each in session.messages] + [f"{session}", str(list(session.messages))]

    assert SECRET not in "".join(shown)
    assert repr(session) == "<Session 's' user_id='ada' active 2 messages>"
    assert repr(session.messages) == "<2 messages>"
    assert repr(session.checkpoints[0]) == "<Checkpoint 'c' at 2 messages>"
    assert repr(session.messages[0]).startswith(f"<Message {session.messages[0].message_id!r} role='user'")


@pytest.mark.parametrize(
    "failing",
    [
        lambda s: s.add_message("user", [SECRET, {SECRET}]),
        lambda s: s.add_message("user", SECRET, metadata={"a": {SECRET}}),
        lambda s: s.add_message("user", SECRET, message_id=s.messages[0].message_id),
        lambda s: s.set_state("k", {"a": {SECRET}}),
        lambda s: s.replace_message(s.messages[0].message_id, content={SECRET}),
        lambda s: s.remove_message("m9"),
        lambda s: s.rewind("x"),
        lambda s: s.messages.append(SECRET),
        lambda s: s.messages[9],
    ],
)
def test_an_error_shows_no_conversation_text(failing):
    """An error, its repr and its cause show no text of a conversation."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  (whatever it is)
        failing(everything_secret())

    error = caught.value
    while error is not None:
        assert SECRET not in f"{error}{error!r}"
        error = error.__cause__ or error.__context__


def test_a_replaced_session_keeps_the_fields_of_later_releases():
    """`dataclasses.replace` keeps unknown fields, from JSON and from a store, also under another id."""
    manager = SessionManager()
    given = Session.from_dict({**manager.create_session("ada", session_id="s").to_dict(), "later": {"x": 1}})
    manager.save(given)
    loaded = manager.get_session("s")

    for session in (Session.from_dict({**Session().to_dict(), "later": {"x": 1}}), given, loaded):
        assert replace(session, title="A").to_dict()["later"] == {"x": 1}
        assert replace(session, session_id="t").to_dict()["later"] == {"x": 1}
        assert replace(replace(session, session_id="t"), title="A").to_dict()["later"] == {"x": 1}
