"""A session's messages: read as a list, changed by the session, loaded in part."""

import copy
from datetime import timedelta

import pytest

from pyai_sessions import ImmutableError, InvalidValueError, KVSessionStore, Message, Session, SessionStateError
from pyai_sessions.testing import NOON, StoppedClock
from tests.samples import CALLS, PARTS, contents, three_messages


@pytest.fixture
def clock():
    return StoppedClock()


@pytest.fixture
def session(clock):
    """A session with three messages, m0 to m2, on a stopped clock."""
    return three_messages(clock)


def stored_part(session, last):
    """Return a session of which a store loaded the newest *last* messages alone."""
    store = KVSessionStore({})
    store.save(Session.from_json(session.to_json()))
    return store.get(session.session_id, last=last)


# Read as a list ---------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", ["append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"])
def test_a_list_method_that_changes_is_refused_with_the_remedy(session, name):
    """A caller who takes it for a list of their own learns which methods of the session to use."""
    with pytest.raises(ImmutableError, match=r"change it by session\.add_message, pop"):
        getattr(session.messages, name)()


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


# Changes ----------------------------------------------------------------------------------------------------------


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
    with pytest.raises(InvalidValueError, match="'m1' is taken by another message of the session"):
        session.add_message("user", "", message_id="m1")
    with pytest.raises(InvalidValueError, match="is the same of two of these messages"):
        Session(messages=[session.messages[0], session.messages[0]])

    assert session.message_count == 3


def test_a_message_that_the_session_has_is_not_added_again(session):
    """The same id and content: the call returns the message that is there, and nothing changes."""
    session.add_message("user", "book it", message_id="tg-1")
    before = session.to_dict()

    again = session.add_message("user", "book it", message_id="tg-1")
    inserted = session.insert_message("m1", "user", "book it", message_id="tg-1")

    assert again is inserted is session.messages[-1]
    assert session.to_dict() == before


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
    with pytest.raises(InvalidValueError, match=r"^messages\[0\] is .*; it is a Message$"):
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


# A part of it -----------------------------------------------------------------------------------------------------


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

    for refused in (part.to_dict, part.to_json):
        with pytest.raises(SessionStateError, match="is loaded only in part; load all of it with"):
            refused()
    with pytest.raises(SessionStateError, match="has no message 'm0' among those loaded"):
        part.remove_message("m0")


def test_all_messages_of_a_part_are_removed(session):
    """Those that were not loaded, too; what another writer appends meanwhile stays."""
    for n in range(200):
        session.add_message("user", f"more {n}")
    part = stored_part(session, last=2)
    part.clear_messages()
    part.add_message("user", "a new beginning")

    assert [each.content for each in part.messages] == ["a new beginning"]
    assert part.message_count == 1


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


# For a model ------------------------------------------------------------------------------------------------------


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
        ({"last": 2}, ["text 0", "text 1", "text 2"]),
        ({"last": 1}, ["text 0", "text 1"]),
        ({"last": 0}, ["text 0"]),
        ({"last": 9}, ["text 0", "text 1", "text 2"]),
        ({"roles": ["user", "system"]}, ["text 0", "text 1"]),
        ({"roles": ("user", "assistant"), "last": 1}, ["text 1"]),
        ({"roles": ("assistant",), "last": 1}, ["text 2"]),
        ({"roles": ["system"], "last": 1}, ["text 0"]),
        ({"roles": []}, []),
        ({"roles": {"user": 1}.keys()}, ["text 1"]),
    ],
    ids=repr,
)
def test_history_chooses_roles_first_and_then_the_last(session, arguments, expected):
    """*last* counts the messages of the wanted roles; what instructs the model stays, and what was asked."""
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
