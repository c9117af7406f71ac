"""Sessions for OpenAI's Agents SDK, without the SDK: items that are added come back, and are ordinary messages."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyai_sessions import (
    AsyncSessionManager,
    InvalidValueError,
    Message,
    SessionArchivedError,
    SessionExistsError,
    SessionManager,
)
from pyai_sessions.integrations.openai_agents import OpenAIAgentsSession, items_of, messages_of
from pyai_sessions.prompts.formats.parts import FORMATS

TEXT = st.text(max_size=12)
IDS = st.sampled_from(["", "a", "b", "__fake_id__", "x" * 70])
BESIDES = st.fixed_dictionaries(
    {},
    optional={"provider_data": st.dictionaries(TEXT, TEXT, max_size=2), "metadata": st.none() | TEXT, "nil": st.none()},
)
STATUS = st.sampled_from(["completed", "in_progress", "incomplete"])


def item(**fields):
    """Return a strategy for an item: texts are constants."""
    known = {key: each if isinstance(each, st.SearchStrategy) else st.just(each) for key, each in fields.items()}
    return st.tuples(st.fixed_dictionaries(known), BESIDES).map(lambda pair: pair[1] | pair[0])


INPUT = st.lists(
    item(type="input_text", text=TEXT)
    | item(
        type="input_image", image_url=st.sampled_from(["https://a/b.png", "data:image/png;base64,AAAA"]), detail="auto"
    )
    | item(type="input_image", file_id="f", detail=st.sampled_from(["auto", "high"]))
    | item(type="input_file", filename="a.pdf", file_data="data:application/pdf;base64,AAAA"),
    max_size=3,
)
OUTPUT = st.lists(
    item(type="output_text", text=TEXT, annotations=st.lists(item(type="url_citation", url=TEXT), max_size=1))
    | item(type="output_text", text=TEXT, annotations=st.just([]), logprobs=st.just([]))
    | item(type="refusal", refusal=TEXT),
    max_size=3,
)
ITEMS = st.lists(
    item(role=st.sampled_from(["user", "system", "developer"]), content=TEXT | INPUT)
    | item(type="message", role="user", content=INPUT)
    | item(role="assistant", content=TEXT)
    | item(type="message", id=IDS, role="assistant", status=STATUS, content=OUTPUT)
    | item(type="reasoning", id=IDS, summary=st.lists(item(type="summary_text", text=TEXT), max_size=2))
    | item(type="function_call", call_id=IDS, name=TEXT, arguments=TEXT, id=IDS, status=STATUS)
    | item(type="custom_tool_call", call_id=IDS, name=TEXT, input=TEXT)
    | item(type="function_call_output", call_id=IDS, output=TEXT | INPUT)
    | item(type="custom_tool_call_output", call_id=IDS, output=TEXT | INPUT)
    | item(type="computer_call_output", call_id=IDS, output=item(type="computer_screenshot", image_url=TEXT))
    | item(type="web_search_call", id=IDS, status=STATUS, action=BESIDES)
    | item(type="mcp_approval_response", approval_request_id=IDS, approve=st.booleans())
    | item(type="compaction", id=IDS, encrypted_content=TEXT)
    | item(type=st.sampled_from(["of_a_later_release", "later_output"]), payload=BESIDES)
    | item(__enc__=1, payload=TEXT),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a machine may be busy
@given(ITEMS)
def test_items_come_back_as_they_were_given(items):
    """Items of every kind are read equal to what was added."""
    stored = [Message.from_dict(json.loads(json.dumps(each.to_dict()))) for each in messages_of(items)]

    assert items_of(stored) == items


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ITEMS, max_size=2), st.integers(1, 8))
def test_items_are_read_and_taken_from_the_end(batches, limit):
    """A session returns all items, the newest *limit* of them, and takes one after another from the end."""
    items = [each for batch in batches for each in batch]

    async def store():
        async with AsyncSessionManager() as manager:
            session = OpenAIAgentsSession("s", manager)
            for each in batches:
                await session.add_items(each)
            assert await session.get_items() == items
            assert await session.get_items(limit) == items[-limit:]
            for n in reversed(range(len(items))):
                assert await session.pop_item() == items[n]
            assert await session.pop_item() is None

    asyncio.run(store())


TURN = [
    {"role": "user", "content": "Is it warm in Oslo?"},
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": '{"city": "Oslo"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "21 degrees"},
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Yes.", "annotations": [], "logprobs": []}],
    },
]


def run(*calls):
    """Run coroutines, and return the last result."""

    async def one_after_another():
        return [await each for each in calls][-1]

    return asyncio.run(one_after_another())


def test_items_are_ordinary_messages():
    """What the SDK stored is listed, given to other models, and exported, like any other conversation."""
    manager = SessionManager()
    run(OpenAIAgentsSession("s", manager, user_id="ada").add_items(TURN))

    [listed] = manager.get_sessions_for_user("ada")

    assert [each["role"] for each in listed.history(format="openai")] == ["user", "assistant", "tool", "assistant"]
    assert listed.history(format="anthropic")[1]["content"][-1]["input"] == {"city": "Oslo"}
    assert listed.history(format="responses")[:4] == TURN[:4]


def test_a_text_is_stored_once():
    """What the message's own fields say is not repeated in the difference."""
    manager = SessionManager()

    run(OpenAIAgentsSession("s", manager).add_items(TURN))

    assert str([each.to_dict() for each in manager.get_session("s").messages]).count("Yes.") == 1


def test_messages_of_others_are_items():
    """A conversation that was written by hand, or in another format, is continued under the SDK."""
    manager = SessionManager()
    session = manager.create_session("ada", session_id="s")
    session.add_message("user", "Is it warm in Oslo?")
    session.add_messages(
        [
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "21 degrees"}]},
        ],
        format="anthropic",
    )
    session.add_message("assistant", "")
    manager.save(session)

    items = run(OpenAIAgentsSession("s", manager).get_items())

    assert [each.get("type", each.get("role")) for each in items] == ["user", "function_call", "function_call_output"]
    assert items[2] == TURN[3]


def test_an_edited_message_says_what_it_was_edited_to():
    """After an edit the new content counts, and nothing of the old item is left."""
    manager = SessionManager()
    session = OpenAIAgentsSession("s", manager)
    run(session.add_items(TURN))
    last = manager.get_messages("s")[-1]

    manager.replace_message("s", last, content="No.")

    assert run(session.get_items(1)) == [{"role": "assistant", "content": "No."}]


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_item_is_given_to_no_model(name):
    """An object of an unknown type is kept, but is in no prompt."""
    manager = SessionManager()
    session = OpenAIAgentsSession("s", manager)
    items = [*TURN[:4], {"__enc__": 1, "payload": "c2VjcmV0"}, TURN[4], {"role": "user", "content": "Thanks."}]

    run(session.add_items(items))

    assert run(session.get_items()) == items
    prompt = manager.get_session("s").history(format=name)
    run(session.clear_session(), session.add_items([each for each in items if "__enc__" not in each]))
    assert prompt == manager.get_session("s").history(format=name)


def test_adding_is_one_commit():
    """A batch is stored in one commit. An empty one writes nothing."""
    events = []
    manager = SessionManager(on_event=events.append)

    run(OpenAIAgentsSession("s", manager).add_items(TURN), OpenAIAgentsSession("t", manager).add_items([]))

    assert [each.method for each in events if each.name == "ended"] == ["update"]
    assert manager.get_session("s").message_count == 4
    assert manager.get_session("t") is None


def test_two_callers_take_two_items():
    """Callers that take items at the same time get different ones."""
    manager = SessionManager()
    calls = [{"type": "function_call", "call_id": f"c{n}", "name": "f", "arguments": "{}"} for n in range(8)]

    async def take():
        sessions = [OpenAIAgentsSession("s", manager) for _ in range(10)]
        await sessions[0].add_items(calls)
        return await asyncio.gather(*(each.pop_item() for each in sessions))

    taken = asyncio.run(take())

    assert sorted(each["call_id"] for each in taken if each) == [f"c{n}" for n in range(8)]


def test_clearing_keeps_the_session():
    """Clearing removes the items, and keeps title and state. An absent session stays absent."""
    manager = SessionManager()
    session = OpenAIAgentsSession("s", manager, user_id="ada")

    run(session.clear_session(), session.add_items(TURN))
    run(session.clear_session())

    assert run(session.get_items()) == []
    assert manager.get_session("s").user_id == "ada"


def test_another_users_session_is_not_read_and_not_written():
    """Under another user's id a session seems empty, and adding to it raises."""
    manager = SessionManager()
    run(OpenAIAgentsSession("s", manager, user_id="ada").add_items(TURN))
    session = OpenAIAgentsSession("s", manager, user_id="bob")

    assert run(session.get_items()) == []
    assert run(session.pop_item()) is None
    run(session.clear_session())
    with pytest.raises(SessionExistsError):
        run(session.add_items(TURN))
    assert manager.get_session("s").message_count == 4


def test_a_session_that_was_deleted_or_given_away_meanwhile_is_not_taken_for_ones_own():
    """After a deletion, adding begins a new session; of one that is another user's by now, it raises."""
    manager = SessionManager()
    session = OpenAIAgentsSession("s", manager, user_id="ada")
    run(session.add_items(TURN), session.get_items())

    manager.delete("s")
    run(session.add_items(TURN))
    assert run(session.get_items()) == TURN
    found = manager.get_session("s")
    found.user_id = "bob"
    manager.save(found)

    with pytest.raises(SessionExistsError):
        run(session.add_items(TURN))
    assert manager.get_session("s").message_count == 4


def test_an_archived_session_is_read_and_not_written():
    """An archived session has its items, and takes no new ones."""
    manager = SessionManager()
    session = OpenAIAgentsSession("s", manager)
    run(session.add_items(TURN))
    manager.archive("s")

    assert run(session.get_items()) == TURN
    for write in (lambda: session.add_items(TURN), session.pop_item, session.clear_session):
        with pytest.raises(SessionArchivedError):
            run(write())


def test_the_limit_of_the_settings_holds():
    """A call without a limit uses the limit of the session's settings."""

    class Settings:
        limit = 2

    session = OpenAIAgentsSession("s", SessionManager(), session_settings=Settings())
    run(session.add_items(TURN))

    assert run(session.get_items()) == TURN[-2:]
    assert run(session.get_items(3)) == TURN[-3:]
    assert run(session.get_items(0)) == []


@pytest.mark.parametrize("session_id", ["", None, 7])
def test_an_id_that_no_session_can_have_is_refused(session_id):
    """It is refused at once: such a session would seem to be empty until the first items are added."""
    with pytest.raises(InvalidValueError, match="session_id"):
        OpenAIAgentsSession(session_id, SessionManager())
