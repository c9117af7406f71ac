"""Tests of a session's messages: read like a list, changed by the session, and loaded in part."""

import copy
from datetime import timedelta

import pytest

from pyai_sessions import (
    ImmutableError,
    InvalidValueError,
    KVSessionStore,
    Message,
    Session,
    SessionManager,
    SessionStateError,
)
from pyai_sessions.testing import NOON
from tests.samples import CALLS, PARTS, contents


def stored_part(session, last):
    """Return a session that a store loaded with its newest *last* messages only."""
    store = KVSessionStore({})
    SessionManager(store).import_sessions([session])
    return store.get(session.session_id, last=last)


# Read as a list ---------------------------------------------------------------------------------------------------


def test_the_history_is_read_as_a_list(session):
    """Iteration, indexes, slices, length, membership and search work as in a list."""
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
    """An index beyond the history raises IndexError."""
    with pytest.raises(IndexError):
        session.messages[3]


def test_the_history_compares_as_a_list(session):
    """A history equals a list or tuple of the same messages, and another history."""
    as_list = list(session.messages)

    assert session.messages == as_list
    assert as_list == session.messages
    assert session.messages == tuple(as_list)
    assert session.messages != as_list[1:]
    assert session.messages != "messages"
    assert session.messages == Session.from_json(session.to_json()).messages


def test_an_empty_history_is_false():
    """An empty history is false."""
    assert not Session().messages
    assert Session().messages == []


def test_the_history_follows_the_session(session):
    """A history that was taken earlier shows messages that are added later."""
    view = session.messages

    session.add_message("user", "later")

    assert view[-1].content == "later"


@pytest.mark.parametrize("name", ["append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"])
def test_a_list_method_that_changes_is_refused_with_the_remedy(session, name):
    """A list method that would change the history raises an error that names the session's method."""
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
    """Assigning to an item of the history raises."""
    with pytest.raises((AttributeError, TypeError)):
        change(session)

    assert session.message_count == 3


def test_a_copied_session_has_a_history_of_its_own(session):
    """A deep copy and its original change independently, and both can be stored."""
    copied = copy.deepcopy(session)

    copied.add_message("user", "only here")

    assert contents(copied) == ["text 0", "text 1", "text 2", "only here"]
    assert contents(session) == ["text 0", "text 1", "text 2"]


# Changes ----------------------------------------------------------------------------------------------------------


def test_an_added_message_has_the_given_fields_and_is_returned(session):
    """`add_message` takes all fields of Message, and returns the new last message."""
    message = session.add_message(
        "tool", {"temp": 21}, metadata={"ms": 5}, timestamp=NOON, message_id="id", tool_call_id="call_1", name="weather"
    )

    assert session.messages[-1] is message
    assert message == Message("tool", {"temp": 21}, {"ms": 5}, NOON, "id", None, "call_1", "weather")


def test_an_added_message_has_the_time_of_the_session_s_clock(session, clock):
    """A session of a manager uses the manager's clock."""
    clock.advance(hours=1)

    assert session.add_message("user", "").timestamp == NOON + timedelta(hours=1)


def test_a_field_that_messages_do_not_have_is_refused(session):
    """A misspelled field raises."""
    with pytest.raises(TypeError, match="metadat"):
        session.add_message("user", "", metadat={})

    assert session.message_count == 3


def test_a_message_id_is_unique_within_its_session(session):
    """A different message of a used id raises, however the first was added."""
    with pytest.raises(InvalidValueError, match="'m1' is taken by another message of the session"):
        session.add_message("user", "", message_id="m1")
    with pytest.raises(InvalidValueError, match="is the same of two of these messages"):
        Session(messages=[session.messages[0], session.messages[0]])

    assert session.message_count == 3


def test_a_message_that_the_session_has_is_not_added_again(session):
    """Adding the same id and content again returns the message that is there, and changes nothing."""
    session.add_message("user", "book it", message_id="tg-1")
    before = session.to_dict()

    again = session.add_message("user", "book it", message_id="tg-1")
    inserted = session.insert_message("m1", "user", "book it", message_id="tg-1")

    assert again is inserted is session.messages[-1]
    assert session.to_dict() == before


def test_an_id_is_free_again_when_its_message_is_gone(session):
    """After `pop` or `remove_message` the id can be used again."""
    session.pop()
    session.remove_message("m0")

    session.add_message("user", "new", message_id="m2")
    session.add_message("user", "new", message_id="m0")

    assert [each.message_id for each in session.messages] == ["m1", "m2", "m0"]


@pytest.mark.parametrize("given", [["text"], [{"role": "user", "content": ""}], [None]])
def test_a_history_of_other_things_than_messages_is_refused(given):
    """An item that is not a message raises an error that names it."""
    with pytest.raises(InvalidValueError, match=r"^messages\[0\] is .*; it is a Message$"):
        Session(messages=given)


def test_a_session_takes_a_copy_of_given_messages():
    """A session copies a given list."""
    given = [Message("user", "Hello!")]
    session = Session(messages=given)

    given.clear()

    assert contents(session) == ["Hello!"]


def test_pop_removes_and_returns_the_last_message(session):
    """`pop` removes and returns the last message."""
    last = session.messages[-1]

    assert session.pop() is last
    assert contents(session) == ["text 0", "text 1"]


def test_pop_of_an_empty_history_says_so():
    """`pop` on an empty history raises an error that names the session."""
    with pytest.raises(SessionStateError, match="session 's' has no message to pop"):
        Session(session_id="s").pop()


def test_a_replaced_message_keeps_its_place_and_id(session):
    """A replaced message keeps its place, its id and the fields that are not given."""
    before = session.messages[1]

    made = session.replace_message("m1", content="edited")

    assert session.messages[1] is made
    assert (made.message_id, made.content) == ("m1", "edited")
    assert (made.role, made.timestamp) == (before.role, before.timestamp)
    assert contents(session) == ["text 0", "edited", "text 2"]


def test_the_id_of_a_message_cannot_be_replaced(session):
    """A message's id cannot be changed, since other writers use it."""
    with pytest.raises(InvalidValueError, match="message_id names the message to replace and cannot change"):
        session.replace_message("m1", message_id="other")


def test_a_replacement_that_json_cannot_hold_leaves_the_message(session):
    """An invalid replacement changes nothing."""
    with pytest.raises(InvalidValueError, match="content is a set"):
        session.replace_message("m1", content={1})

    assert contents(session) == ["text 0", "text 1", "text 2"]


def test_a_removed_message_is_returned(session):
    """`remove_message` returns the message, and keeps the order of the others."""
    assert session.remove_message("m1").content == "text 1"
    assert contents(session) == ["text 0", "text 2"]


@pytest.mark.parametrize("method", ["remove_message", "replace_message"])
def test_a_message_that_is_not_there_is_named(session, method):
    """The error for an absent message names session and message."""
    with pytest.raises(SessionStateError, match="session 's' has no message 'm9'"):
        getattr(session, method)("m9")


def test_clear_messages_leaves_metadata_and_state(session):
    """`clear_messages` removes only the history."""
    session.metadata["title"] = "T"
    session.set_state("k", 1)

    session.clear_messages()

    assert session.message_count == 0
    assert session.messages == []
    assert (session.metadata, session.state) == ({"title": "T"}, {"k": 1})


# A part of it -----------------------------------------------------------------------------------------------------


def test_a_session_loaded_in_part_counts_all_and_shows_the_last(session):
    """In a partly loaded session `message_count` counts all, and `messages` has the loaded ones."""
    part = stored_part(session, last=2)

    assert part.message_count == 3
    assert [each.content for each in part.messages] == ["text 1", "text 2"]
    assert part.messages[0].content == "text 1"
    assert len(part.messages) == 2


def test_what_needs_the_whole_history_is_refused_on_a_part(session):
    """A method that needs the whole history raises on a part, and says how to load the rest."""
    for n in range(200):
        session.add_message("user", f"more {n}")
    part = stored_part(session, last=2)

    for refused in (part.to_dict, part.to_json):
        with pytest.raises(SessionStateError, match="is loaded only in part; load all of it with"):
            refused()
    with pytest.raises(SessionStateError, match="has no message 'm0' among those loaded"):
        part.remove_message("m0")


def test_all_messages_of_a_part_are_removed(session):
    """Clearing a part removes the messages that were not loaded, too. Others' later appends stay."""
    for n in range(200):
        session.add_message("user", f"more {n}")
    part = stored_part(session, last=2)
    part.clear_messages()
    part.add_message("user", "a new beginning")

    assert [each.content for each in part.messages] == ["a new beginning"]
    assert part.message_count == 1


def test_a_part_forgets_no_message_by_pop(session):
    """Each `pop` on a part removes exactly one message."""
    part = stored_part(session, last=1)

    assert part.pop().message_id == "m2"
    assert part.message_count == 2
    assert len(part.messages) <= 2
    assert part.pop().message_id == "m1"
    assert part.message_count == 1


def test_a_part_can_be_appended_to(session):
    """A part shows the loaded messages and those added since."""
    part = stored_part(session, last=1)

    part.add_message("user", "new")

    assert [each.content for each in part.messages] == ["text 2", "new"]
    assert part.message_count == 4


# For a model ------------------------------------------------------------------------------------------------------


def test_history_is_what_a_model_s_client_takes(session):
    """`history` returns dicts of role and content, with tool fields where a message has them."""
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
    """*last* counts messages of the chosen roles. Instructions and the question stay."""
    assert [each["content"] for each in session.history(**arguments)] == expected


@pytest.mark.parametrize("last", [-1, 1.5, "2", True])
def test_history_refuses_what_is_no_count(session, last):
    """An invalid count raises an error that says what is accepted."""
    with pytest.raises(InvalidValueError, match=r"^last is .*; it is a whole number of 0 or more, or None for all$"):
        session.history(last=last)


def test_history_is_the_caller_s_own(session):
    """Changing the returned dicts does not change the session."""
    session.add_message("user", PARTS)
    history = session.history()

    history[-1]["content"][0]["text"] = "changed"
    history.clear()

    assert session.messages[-1].content == PARTS
    assert session.message_count == 4
