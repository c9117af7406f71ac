"""Message, Session, Checkpoint, SessionSummary: what users hold in their hands."""

import copy
import json
import re
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone

import pytest

from pyai_sessions import (
    Checkpoint,
    InvalidValueError,
    KVSessionStore,
    Message,
    Session,
    SessionManager,
    SessionStateError,
    SessionStatus,
    SessionSummary,
)
from tests.clock import NOON, StoppedClock

SECRET = "the patient's name"
CALLS = [{"id": "call_1", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]
PARTS = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:"}}]


@pytest.fixture
def clock():
    return StoppedClock()


@pytest.fixture
def session(clock):
    """A session with three messages, m0 to m2, on a stopped clock."""
    made = SessionManager({}, clock=clock).create_session("ada", session_id="s")
    for n, role in enumerate(["system", "user", "assistant"]):
        made.add_message(role, f"text {n}", message_id=f"m{n}")
    return made


def contents(session):
    return [each.content for each in session.messages]


def stored_part(session, last):
    """Return a session of which a store loaded the newest *last* messages alone."""
    store = KVSessionStore({})
    store.save(Session.from_json(session.to_json()))
    return store.get(session.session_id, last=last)


# Message ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field", ["role", "content", "metadata", "timestamp", "message_id", "tool_calls", "tool_call_id", "name", "new"]
)
def test_a_message_cannot_be_assigned_to(field):
    """A message does not change, so sealed pages need not be written again."""
    with pytest.raises(FrozenInstanceError):
        setattr(Message("user", "Hello!"), field, "x")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.content[0].update(text="x"),
        lambda m: m.content.append("x"),
        lambda m: m.metadata["tags"].append("x"),
        lambda m: m.metadata.clear(),
        lambda m: m.tool_calls[0]["function"].pop("name"),
    ],
)
def test_a_message_cannot_be_changed_from_within(change):
    """Immutability is deep: no part of a part can change."""
    message = Message("user", PARTS, metadata={"tags": ["a"]}, tool_calls=CALLS)
    before = message.to_json()

    with pytest.raises(TypeError, match="replace_message"):
        change(message)

    assert message.to_json() == before


def test_a_message_does_not_follow_what_it_was_made_of():
    """A later change of a given list or dict does not reach the message."""
    parts, metadata, calls = copy.deepcopy((PARTS, {"tags": ["a"]}, CALLS))
    message = Message("user", parts, metadata=metadata, tool_calls=calls)

    parts.clear()
    metadata["tags"].append("b")
    calls[0].clear()

    assert (message.content, message.metadata, message.tool_calls) == (PARTS, {"tags": ["a"]}, CALLS)


def test_message_ids_are_random_and_do_not_repeat():
    """An id that is not given is 32 hex digits, another for each message."""
    ids = {Message("user", "").message_id for _ in range(1000)}

    assert len(ids) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


def test_session_ids_are_random_and_do_not_repeat():
    """An id that is not given is sess_ and 32 hex digits, another for each session."""
    ids = {Session().session_id for _ in range(1000)}

    assert len(ids) == 1000
    assert all(re.fullmatch("sess_[0-9a-f]{32}", each) for each in ids)


@pytest.mark.parametrize(
    "given", ["x", "a/b", "..", "%2F", "ü" * 512, "x" * 1024, "\U0001f600" * 256, "\x00", "\ud800"]
)
def test_an_id_is_any_text_of_up_to_a_kibibyte(given):
    """Ids are the caller's: any Unicode of 1 to 1,024 bytes in UTF-8."""
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
        (7, "is a int"),
        (b"x", "is a bytes"),
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
    """The error says which id, what it is, and what is accepted."""
    with pytest.raises(InvalidValueError) as caught:
        make(given)

    assert str(caught.value).startswith(f"{name} {problem}; it is text")
    assert caught.value.path == name


@pytest.mark.parametrize("role", ["user", "assistant", "system", "tool", "developer", "function", "", "\U0001f916"])
def test_a_role_is_free_text(role):
    """Frameworks have roles of their own: none is refused."""
    assert Message(role, "").role == role


@pytest.mark.parametrize("field", ["role", "name", "tool_call_id"])
def test_a_text_field_refuses_what_is_no_text(field):
    """The error names the field and what it is."""
    with pytest.raises(InvalidValueError, match=f"^{field} is a int; it is text$"):
        Message(**{"role": "user", "content": "", field: 1})


@pytest.mark.parametrize("content", ["", "text", PARTS, {"result": [1, None]}, None, 0, 1.5, True, [], {}], ids=repr)
def test_content_is_any_json(content):
    """Text, multimodal parts, a tool's result, nothing."""
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
        ({"timestamp": "2026-01-31T12:00:00Z"}, "timestamp"),
        ({"timestamp": NOON.replace(tzinfo=None)}, "timestamp"),
    ],
    ids=repr,
)
def test_a_field_that_cannot_be_stored_is_refused_when_the_message_is_made(fields, path):
    """The error names the part; nothing is appended."""
    session = Session()

    with pytest.raises(InvalidValueError) as caught:
        session.add_message("user", **{"content": "", **fields})

    assert caught.value.path == path
    assert session.message_count == 0


def test_messages_are_equal_when_all_fields_are():
    """Equality is of values, not of objects; and equal messages hash alike."""
    one, other, third = (Message("user", text, timestamp=NOON, message_id="m") for text in ("a", "a", "b"))

    assert one == other
    assert one != third
    assert len({one, other, third}) == 2


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copied_message_is_equal(duplicate):
    """Copying is harmless."""
    message = Message("user", PARTS, metadata={"a": 1}, tool_calls=CALLS)

    assert duplicate(message) == message


# Messages: the view -----------------------------------------------------------------------------------------------


def test_the_history_is_read_as_a_list(session):
    """Iteration, indexes, slices, length, membership and search are a list's."""
    messages = session.messages
    as_list = list(messages)

    assert [each.message_id for each in messages] == ["m0", "m1", "m2"]
    assert messages[0] is as_list[0]
    assert messages[-1] is as_list[-1]
    assert messages[1:] == as_list[1:]
    assert messages[::-1] == as_list[::-1]
    assert isinstance(messages[:1], list)
    assert len(messages) == 3
    assert bool(messages)
    assert as_list[1] in messages
    assert messages.index(as_list[2]) == 2
    assert messages.count(as_list[0]) == 1
    assert list(reversed(messages)) == as_list[::-1]


def test_an_index_beyond_the_history_is_an_index_error(session):
    """As with a list."""
    with pytest.raises(IndexError):
        session.messages[3]


def test_the_history_compares_as_a_list(session):
    """It equals a list or a tuple of the same messages, and the history of an equal session."""
    as_list = list(session.messages)

    assert session.messages == as_list
    assert as_list == session.messages
    assert session.messages == tuple(as_list)
    assert session.messages != as_list[1:]
    assert session.messages != "messages"
    assert session.messages == Session.from_json(session.to_json()).messages


def test_an_empty_history_is_false():
    """As with a list."""
    assert not Session().messages
    assert Session().messages == []


def test_the_history_follows_the_session(session):
    """A view that was taken before sees what is added after."""
    view = session.messages

    session.add_message("user", "later")

    assert view[-1].content == "later"


@pytest.mark.parametrize("name", ["append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "copy"])
def test_a_list_method_that_the_history_lacks_is_refused_with_the_remedy(session, name):
    """A caller who takes it for a list learns which methods of the session to use."""
    with pytest.raises(AttributeError, match=f"Messages has no attribute '{name}'; .*session.add_message, pop"):
        getattr(session.messages, name)


def test_an_attribute_that_no_list_has_is_refused_without_a_remedy(session):
    """A slip of the pen is no wish for a list."""
    with pytest.raises(AttributeError, match=r"^Messages has no attribute 'lenght'$"):
        session.messages.lenght  # noqa: B018


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.messages.__setitem__(0, Message("user", "")),
        lambda s: s.messages.__delitem__(0),
        lambda s: s.messages.__iadd__([Message("user", "")]),
    ],
)
def test_the_history_has_no_item_assignment(session, change):
    """The session's methods are the only way to change its history."""
    with pytest.raises((AttributeError, TypeError)):
        change(session)

    assert session.message_count == 3


def test_a_copied_session_has_a_history_of_its_own(session):
    """A deep copy and its original change apart, and both can be stored."""
    copied = copy.deepcopy(session)

    copied.add_message("user", "only here")

    assert contents(copied) == ["text 0", "text 1", "text 2", "only here"]
    assert contents(session) == ["text 0", "text 1", "text 2"]


# Session: messages ------------------------------------------------------------------------------------------------


def test_an_added_message_has_the_given_fields_and_is_returned(session):
    """add_message takes all fields of Message and returns what the history now ends with."""
    message = session.add_message(
        "tool", {"temp": 21}, metadata={"ms": 5}, timestamp=NOON, message_id="id", tool_call_id="call_1", name="weather"
    )

    assert session.messages[-1] is message
    assert message == Message("tool", {"temp": 21}, {"ms": 5}, NOON, "id", None, "call_1", "weather")


def test_an_added_message_has_the_time_of_the_session_s_clock(session, clock):
    """A session that a manager made follows the manager's clock."""
    clock.pass_(hours=1)

    assert session.add_message("user", "").timestamp == NOON + timedelta(hours=1)


def test_a_field_that_messages_do_not_have_is_refused(session):
    """A misspelt field is an error, not data lost."""
    with pytest.raises(TypeError, match="metadat"):
        session.add_message("user", "", metadat={})

    assert session.message_count == 3


def test_a_message_id_is_unique_within_its_session(session):
    """A second message of an id is refused, whether the first came by add_message or with the session."""
    with pytest.raises(InvalidValueError, match="'m1' is taken by another message of this session"):
        session.add_message("user", "", message_id="m1")
    with pytest.raises(InvalidValueError, match=r"taken by another message|one message id twice"):
        Session(messages=[session.messages[0], session.messages[0]])

    assert session.message_count == 3


def test_an_id_is_free_again_when_its_message_is_gone(session):
    """After pop or remove_message the id may be used anew."""
    session.pop()
    session.remove_message("m0")

    session.add_message("user", "new", message_id="m2")
    session.add_message("user", "new", message_id="m0")

    assert [each.message_id for each in session.messages] == ["m1", "m2", "m0"]


@pytest.mark.parametrize("given", [["text"], [{"role": "user", "content": ""}], [None]])
def test_a_history_of_other_things_than_messages_is_refused(given):
    """The error names the item."""
    with pytest.raises(InvalidValueError, match=r"^messages\[0\] is a .*; it is a Message$"):
        Session(messages=given)


def test_a_session_takes_a_copy_of_given_messages():
    """A given list is not the session's own."""
    given = [Message("user", "Hello!")]
    session = Session(messages=given)

    given.clear()

    assert contents(session) == ["Hello!"]


def test_pop_removes_and_returns_the_last_message(session):
    """The opposite of add_message."""
    last = session.messages[-1]

    assert session.pop() is last
    assert contents(session) == ["text 0", "text 1"]


def test_pop_of_an_empty_history_says_so():
    """The error names the session."""
    with pytest.raises(SessionStateError, match="session 's' has no message to pop"):
        Session(session_id="s").pop()


def test_a_replaced_message_keeps_its_place_and_id(session):
    """The fields that are not given stay."""
    before = session.messages[1]

    made = session.replace_message("m1", content="edited")

    assert session.messages[1] is made
    assert (made.message_id, made.content) == ("m1", "edited")
    assert (made.role, made.timestamp) == (before.role, before.timestamp)
    assert contents(session) == ["text 0", "edited", "text 2"]


def test_the_id_of_a_message_cannot_be_replaced(session):
    """The id names the message, for other writers as well."""
    with pytest.raises(InvalidValueError, match="message_id names the message to replace and cannot change"):
        session.replace_message("m1", message_id="other")


def test_a_replacement_that_json_cannot_hold_leaves_the_message(session):
    """Nothing is replaced by half."""
    with pytest.raises(InvalidValueError, match="content is a set"):
        session.replace_message("m1", content={1})

    assert contents(session) == ["text 0", "text 1", "text 2"]


def test_a_removed_message_is_returned(session):
    """The others stay, in their order."""
    assert session.remove_message("m1").content == "text 1"
    assert contents(session) == ["text 0", "text 2"]


@pytest.mark.parametrize("method", ["remove_message", "replace_message"])
def test_a_message_that_is_not_there_is_named(session, method):
    """The error names session and message."""
    with pytest.raises(SessionStateError, match="session 's' has no message 'm9'"):
        getattr(session, method)("m9")


def test_clear_messages_leaves_metadata_and_state(session):
    """Only the history goes."""
    session.metadata["title"] = "T"
    session.set_state("k", 1)

    session.clear_messages()

    assert session.message_count == 0
    assert session.messages == []
    assert (session.metadata, session.state) == ({"title": "T"}, {"k": 1})


# Session: a part of the history -----------------------------------------------------------------------------------


def test_a_session_loaded_in_part_counts_all_and_shows_the_last(session):
    """message_count is of the conversation, messages is what was asked for."""
    part = stored_part(session, last=2)

    assert part.message_count == 3
    assert [each.content for each in part.messages] == ["text 1", "text 2"]
    assert part.messages[0].content == "text 1"
    assert len(part.messages) == 2


def test_what_needs_the_whole_history_is_refused_on_a_part(session):
    """A part cannot be written as if it were all; the error says how to load the rest."""
    for n in range(200):
        session.add_message("user", f"more {n}")
    part = stored_part(session, last=2)

    for refused in (part.to_dict, part.to_json, part.clear_messages):
        with pytest.raises(SessionStateError, match="is loaded only in part; load all of it with"):
            refused()
    with pytest.raises(SessionStateError, match="has no message 'm0' among those loaded"):
        part.remove_message("m0")


def test_a_part_forgets_no_message_by_pop(session):
    """Popping what is shown, and then one more, never removes more than one a time."""
    part = stored_part(session, last=1)

    assert part.pop().message_id == "m2"
    assert part.message_count == 2
    assert len(part.messages) <= 2
    assert part.pop().message_id == "m1"
    assert part.message_count == 1


def test_a_part_can_be_appended_to(session):
    """What was asked for, and what was added since."""
    part = stored_part(session, last=1)

    part.add_message("user", "new")

    assert [each.content for each in part.messages] == ["text 2", "new"]
    assert part.message_count == 4


# Session: history for a model -------------------------------------------------------------------------------------


def test_history_is_what_a_model_s_client_takes(session):
    """Dicts of role and content, with tool fields where a message has them."""
    session.add_message("assistant", None, tool_calls=CALLS)
    session.add_message("tool", "21", tool_call_id="call_1", name="weather")

    assert session.history()[2:] == [
        {"role": "assistant", "content": "text 2"},
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "content": "21", "name": "weather", "tool_call_id": "call_1"},
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ["text 0", "text 1", "text 2"]),
        ({"last": 2}, ["text 1", "text 2"]),
        ({"last": 0}, []),
        ({"last": 9}, ["text 0", "text 1", "text 2"]),
        ({"roles": ["user", "system"]}, ["text 0", "text 1"]),
        ({"roles": ("user", "assistant"), "last": 1}, ["text 2"]),
        ({"roles": ["system"], "last": 1}, ["text 0"]),
        ({"roles": []}, []),
        ({"roles": {"user": 1}.keys()}, ["text 1"]),
    ],
    ids=repr,
)
def test_history_chooses_roles_first_and_then_the_last(session, arguments, expected):
    """*last* counts the messages of the wanted roles."""
    assert [each["content"] for each in session.history(**arguments)] == expected


@pytest.mark.parametrize("last", [-1, 1.5, "2", True])
def test_history_refuses_what_is_no_count(session, last):
    """The error says what is accepted."""
    with pytest.raises(InvalidValueError, match=r"^last is .*; it is a whole number of 0 or more, or None for all$"):
        session.history(last=last)


def test_history_is_the_caller_s_own(session):
    """A client may change the dicts it was given; the session stays."""
    session.add_message("user", PARTS)
    history = session.history()

    history[-1]["content"][0]["text"] = "changed"
    history.clear()

    assert session.messages[-1].content == PARTS
    assert session.message_count == 4


# Session: state, metadata, status ---------------------------------------------------------------------------------


def test_state_is_set_read_and_deleted(session):
    """A key that is not there reads as the default."""
    session.set_state("topic", {"name": "PYAI"})

    assert session.get_state("topic") == {"name": "PYAI"}
    session.delete_state("topic")
    assert session.get_state("topic") is None
    assert session.get_state("topic", "none") == "none"


def test_deleting_state_that_is_not_there_is_fine(session):
    """And is no change: the session's time stays."""
    before = session.updated_at

    session.delete_state("absent")

    assert session.updated_at == before


def test_a_set_state_does_not_follow_what_was_given(session):
    """The session holds a copy."""
    given = [1]
    session.set_state("list", given)

    given.append(2)

    assert session.get_state("list") == [1]


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [("cursor", {1}, "state['cursor']"), ("a", [0, {"b": {1}}], "state['a'][1]['b']"), (7, 1, "key")],
)
def test_a_state_that_json_cannot_hold_is_refused_and_changes_nothing(session, key, value, path):
    """The error names the part; the state and the time stay."""
    before = session.updated_at

    with pytest.raises(InvalidValueError) as caught:
        session.set_state(key, value)

    assert caught.value.path == path
    assert session.state == {}
    assert session.updated_at == before


@pytest.mark.parametrize("field", ["metadata", "state"])
def test_metadata_and_state_are_json_objects(field):
    """What is no dict, or what JSON cannot hold, is refused when the session is made."""
    for given, problem in [([1], "is a list; it is"), (None, "is a NoneType; it is"), ({1: 2}, "has the key 1")]:
        with pytest.raises(InvalidValueError, match=f"^{field} {problem}"):
            Session(**{field: given})


def test_a_session_does_not_follow_what_it_was_made_of():
    """Metadata and state are copies, all the way down."""
    metadata, state = {"tags": ["a"]}, {"deep": {"x": [1]}}
    session = Session(metadata=metadata, state=state)

    metadata["tags"].append("b")
    state["deep"]["x"].append(2)

    assert (session.metadata, session.state) == ({"tags": ["a"]}, {"deep": {"x": [1]}})


def test_a_new_session_is_active_and_empty():
    """No message, no state, no revision, the same time twice."""
    session = Session()

    assert session.status is SessionStatus.ACTIVE
    assert (session.user_id, session.metadata, session.state, session.message_count) == (None, {}, {}, 0)
    assert session.revision is None
    assert session.checkpoints == []


def test_archive_marks_the_session(session):
    """The status is text as well."""
    session.archive()

    assert session.status is SessionStatus.ARCHIVED
    assert session.status == "archived"
    assert str(session.status) == "archived"


def test_a_status_may_be_given_as_text_and_nothing_else():
    """The error names both."""
    assert Session(status="archived").status is SessionStatus.ARCHIVED
    with pytest.raises(InvalidValueError, match="status is 'gone'; it is 'active' or 'archived'"):
        Session(status="gone")


# Checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_holds_the_point_and_the_state(session):
    """Its name, the length and end of the history, the state as it was, the time."""
    session.set_state("k", [1])

    made = session.checkpoint("before")

    assert made == Checkpoint("before", 3, "m2", {"k": [1]}, NOON)
    assert session.checkpoints == [made]


def test_a_checkpoint_cannot_change(session):
    """Neither by assignment nor from within, nor by the session's state."""
    session.set_state("k", [1])
    made = session.checkpoint("c")

    session.state["k"].append(2)

    with pytest.raises(FrozenInstanceError):
        made.name = "x"
    with pytest.raises(TypeError):
        made.state["k"].append(2)
    assert made.state == {"k": [1]}


def test_rewind_returns_to_a_checkpoint(session):
    """Later messages and later checkpoints go, the state is what it was; the checkpoint stays for another time."""
    session.set_state("k", 1)
    session.checkpoint("c")
    session.add_message("user", "later")
    session.set_state("k", 2)
    session.checkpoint("d")

    session.rewind("c")

    assert contents(session) == ["text 0", "text 1", "text 2"]
    assert session.state == {"k": 1}
    assert [each.name for each in session.checkpoints] == ["c"]


def test_rewind_takes_the_checkpoint_itself(session):
    """What checkpoint returned is as good as its name."""
    made = session.checkpoint("c")
    session.add_message("user", "later")

    session.rewind(made)

    assert session.message_count == 3


def test_a_rewound_state_can_change_and_be_rewound_again(session):
    """The checkpoint's state is copied, not lent."""
    session.set_state("k", [1])
    session.checkpoint("c")

    session.rewind("c")
    session.state["k"].append(2)
    session.rewind("c")

    assert session.state == {"k": [1]}


def test_rewind_to_the_empty_beginning():
    """A checkpoint before the first message leads back to none."""
    session = Session()
    session.checkpoint("start")
    session.add_message("user", "x")

    session.rewind("start")

    assert session.message_count == 0


def test_a_checkpoint_of_a_taken_name_replaces_the_other(session):
    """Names are unique; the newer stands last."""
    session.checkpoint("a")
    session.checkpoint("b")
    session.add_message("user", "x")

    session.checkpoint("a")

    assert [(each.name, each.message_count) for each in session.checkpoints] == [("b", 3), ("a", 4)]


def test_rewind_to_an_unknown_checkpoint_names_the_known_ones(session):
    """The error lists what there is."""
    with pytest.raises(InvalidValueError, match="to is 'x'; the session's checkpoints are: none"):
        session.rewind("x")
    session.checkpoint("a")
    session.checkpoint("b")
    with pytest.raises(InvalidValueError, match="to is 'x'; the session's checkpoints are: 'a', 'b'"):
        session.rewind("x")


@pytest.mark.parametrize("change", [lambda s: s.pop(), lambda s: s.remove_message("m1")])
def test_rewind_to_a_history_that_is_gone_is_refused(session, change):
    """What was removed cannot come back; nothing changes."""
    session.checkpoint("c")
    change(session)
    before = session.to_json()

    with pytest.raises(SessionStateError, match="no longer has the history of checkpoint 'c'"):
        session.rewind("c")

    assert session.to_json() == before


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
    """A time of another zone is converted, a naive one is refused: no one knows which it is."""
    made = make(datetime(2026, 1, 31, 17, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))))

    assert made == NOON
    assert made.tzinfo is timezone.utc
    with pytest.raises(InvalidValueError, match=rf"^{name} has no time zone; pass an aware datetime: datetime\.now"):
        make(datetime(2026, 1, 31, 12))  # noqa: DTZ001
    with pytest.raises(InvalidValueError, match=f"^{name} is a float; it is a datetime with a time zone"):
        make(1769860800.0)


def test_default_times_are_now_in_utc():
    """Between the time before and the time after."""
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
    """Each change has a later time, though the clock stands still or is set back: lists are ordered by it."""
    session.set_state("there", 1)
    session.checkpoint("c")
    before = session.updated_at
    clock.pass_(seconds=seconds)

    CHANGES[change](session)

    assert session.updated_at > before
    assert session.updated_at == max(clock.now, before + timedelta(microseconds=1))
    assert session.created_at == NOON


# JSON -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(session):
    """A session that has something in every field."""
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
    """Every field, nested ones included, with the right types."""
    made = Session.from_json(full.to_json())

    assert made == full
    assert isinstance(made.messages[0], Message)
    assert isinstance(made.checkpoints[0], Checkpoint)
    assert made.status is SessionStatus.ARCHIVED
    assert made.messages[0].timestamp == NOON
    assert made.messages[0].timestamp.tzinfo is timezone.utc


def test_a_session_comes_back_equal_from_its_dict(full):
    """to_dict is JSON values; from_dict is its opposite."""
    as_dict = full.to_dict()

    assert json.loads(json.dumps(as_dict)) == as_dict
    assert Session.from_dict(as_dict) == full


def test_the_json_of_a_session_is_one_documented_object():
    """Field names, times in ISO 8601 with a Z, plain text for the status."""
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
    """indent, sort_keys and their like."""
    assert full.to_json(indent=2, sort_keys=True).startswith('{\n  "checkpoints"')


def test_a_dict_of_a_session_is_the_caller_s_own(full):
    """Changing it does not change the session."""
    before = full.to_json()
    as_dict = full.to_dict()

    as_dict["metadata"]["tags"].append("x")
    as_dict["state"]["cursor"].clear()
    as_dict["messages"].clear()

    assert full.to_json() == before


@pytest.mark.parametrize("kind", [Message, Checkpoint])
def test_a_part_comes_back_equal_from_its_json_and_dict(full, kind):
    """Messages and checkpoints can be sent alone."""
    for each in full.messages if kind is Message else full.checkpoints:
        assert kind.from_json(each.to_json()) == each
        assert kind.from_dict(each.to_dict()) == each


def test_a_schema_reads_what_it_wrote(full):
    """dataclasses-json's marshmallow schemas work for each class."""
    for each in (full, full.messages[3], full.checkpoints[0]):
        schema = type(each).schema()

        assert schema.loads(schema.dumps(each)) == each


def test_a_schema_reads_what_to_json_wrote(full):
    """One JSON, whichever way it was written."""
    for each in (full, full.messages[3], full.checkpoints[0]):
        assert type(each).schema().loads(each.to_json()) == each


def test_a_schema_says_what_is_wrong():
    """A service can check what it was sent before it makes a session of it."""
    errors = Session.schema().validate({"session_id": 7, "updated_at": "yesterday", "messages": [{"role": 1}]})

    assert {"session_id", "updated_at", "messages"} <= errors.keys()


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00", "2026-01-31T13:00:00+01:00"])
def test_times_are_read_in_any_zone(text):
    """ISO 8601, as others write it."""
    assert Message.from_dict({"role": "user", "content": "", "timestamp": text}).timestamp == NOON


def test_absent_fields_have_their_defaults():
    """A session written by hand needs no more than it has to say."""
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
    """What a later release or another program added to a session, a message or a checkpoint is kept."""
    given = with_unknown_fields(full)

    made = Session.from_dict(given)

    assert made.to_dict() == given
    assert Session.from_json(made.to_json()).to_dict() == given


def test_unknown_fields_stay_when_the_session_changes(full):
    """A replaced message keeps its own; the session and its checkpoints keep theirs."""
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
    with pytest.raises(InvalidValueError, match=f"^{kind.__name__} is made from a JSON object, not from a "):
        kind.from_dict(given)


def test_a_newer_format_is_refused():
    """Reading it would lose what is new in it."""
    with pytest.raises(InvalidValueError, match="format is 2; this release reads format 1"):
        Session.from_dict({"format": 2, "session_id": "s"})


def test_a_head_whose_older_messages_lie_elsewhere_is_refused():
    """A part is never taken for the whole."""
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
    """A repr ends up in logs: it has ids and sizes."""
    session = everything_secret()
    summary = SessionSummary("s", "ada", session.metadata, 2, session.status, NOON, NOON)

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
    """Nor does its repr, or what caused it."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  (whatever it is)
        failing(everything_secret())

    error = caught.value
    while error is not None:
        assert SECRET not in f"{error}{error!r}"
        error = error.__cause__ or error.__context__
