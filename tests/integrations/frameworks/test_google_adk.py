"""Sessions under the runner of Google's ADK, over SQLite and Valkey, and beside the ADK's own services."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from threading import Barrier

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.sessions import BaseSessionService, InMemorySessionService
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, SessionArchivedError, SessionManager
from pyai_sessions.integrations.google_adk import GoogleADKSessionService
from tests.integrations.frameworks.google_adk_chat import talk
from tests.integrations.frameworks.page import check_program

OF = {"app_name": "app", "user_id": "ada"}


def test_a_conversation_is_resumed_in_another_process(chat, url):
    """A second process gives the model all that was said in the first, and finds the states of the first."""
    first = chat(url, "Is it warm?")
    second = chat(url, "And now?")

    assert second["events"][: len(first["events"])] == first["events"]
    assert [each["role"] for each in second["inputs"][0]] == ["user", "model", "user", "model", "user"]
    assert (
        second["inputs"][-1][-2]["parts"][0]["thought_signature"]
        == first["inputs"][-1][-2]["parts"][0]["thought_signature"]
    )
    assert second["state"]["answer"] == "It has 21 degrees in Oslo and 21 degrees in Bergen."
    assert (second["state"]["app:asked"], second["state"]["user:last"]) == (4, {"Oslo": 1, "Bergen": 1})
    with SessionManager(url) as manager:
        [listed] = manager.list_sessions("ada")
        session = manager.get_session(listed.session_id)
        assert listed.message_count == len(second["events"])
        assert [each["role"] for each in session.history(format="openai")] == 2 * [
            "user", "assistant", "tool", "tool", "assistant",
        ]  # fmt: skip
        assert manager.user_state("ada") == {"weather_app": {"last": {"Oslo": 1, "Bergen": 1}}}
        assert manager.app_state() == {"weather_app": {"greeting": "Hello!", "asked": 4}}


def without_ids(value):
    """Return JSON without what differs from run to run."""
    if isinstance(value, dict):
        drawn = ("id", "timestamp", "invocation_id", "live_session_id")
        return {key: without_ids(each) for key, each in value.items() if key not in drawn}
    return [without_ids(each) for each in value] if isinstance(value, list) else value


def test_the_runner_sees_what_it_sees_with_the_adks_own_services(tmp_path):
    """The model is given the same, and the same events and states are stored."""
    questions = "Is it warm?", "And now?"
    ours = asyncio.run(talk(GoogleADKSessionService(SessionManager()), *questions))

    for theirs in (InMemorySessionService(), SqliteSessionService(str(tmp_path / "adk.db"))):
        assert without_ids(ours) == without_ids(asyncio.run(talk(theirs, *questions)))


# Events of all kinds, beside the ADK's own service --------------------------------------------------------------------

TEXT = st.text(max_size=9)
ID = st.none() | st.sampled_from(["a", "b"])
BYTES = st.none() | st.binary(max_size=9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda each: st.lists(each, max_size=2) | st.dictionaries(TEXT, each, max_size=2),
    max_leaves=4,
)
RESPONSE = st.none() | st.dictionaries(st.sampled_from(["output", "error", "x"]), JSON, max_size=2)
TYPES = st.sampled_from(["image/png", "audio/wav", "application/pdf", "video/mp4"])
FIELDS = [
    {"text": TEXT, "thought": st.none() | st.booleans(), "thought_signature": BYTES},
    {"inline_data": st.builds(types.Blob, data=st.binary(min_size=1, max_size=9), mime_type=TYPES, display_name=ID)},
    {"file_data": st.builds(types.FileData, file_uri=st.sampled_from(["https://a/b.png", "gs://a"]), mime_type=TYPES)},
    {"executable_code": st.builds(types.ExecutableCode, code=TEXT, language=st.just("PYTHON"))},
    {"code_execution_result": st.builds(types.CodeExecutionResult, outcome=st.just("OUTCOME_OK"), output=TEXT)},
    {"function_call": st.builds(types.FunctionCall, id=ID, name=TEXT, args=RESPONSE), "thought_signature": BYTES},
    {"function_response": st.builds(types.FunctionResponse, id=ID, name=TEXT, response=RESPONSE)},
]
CONTENT = st.builds(
    types.Content,
    role=st.sampled_from([None, "user", "model", "function", "other"]),
    parts=st.none() | st.lists(st.one_of(*(st.builds(types.Part, **each) for each in FIELDS)), max_size=3),
)
KEY = st.sampled_from(["a", "b", "app:a", "user:a", "user:b", "temp:a", "app:", "x:y"])
COMPACTION = st.fixed_dictionaries(
    {"start_timestamp": st.just(1.0), "end_timestamp": st.just(2.0), "compacted_content": CONTENT}
)
ACTIONS = st.builds(
    EventActions,
    state_delta=st.dictionaries(KEY, JSON, max_size=3),
    artifact_delta=st.dictionaries(TEXT, st.integers(0, 9), max_size=1),
    transfer_to_agent=st.none() | TEXT,
    escalate=st.none() | st.booleans(),
    agent_state=st.none() | st.dictionaries(TEXT, JSON, max_size=1),
    compaction=st.none() | COMPACTION,
)
EVENT = st.builds(
    Event,
    author=st.sampled_from(["user", "helper", "other"]),
    invocation_id=TEXT,
    content=st.none() | CONTENT,
    actions=ACTIONS,
    partial=st.sampled_from([None, None, False, True]),
    error_code=st.none() | TEXT,
    error_message=st.none() | TEXT,
    interrupted=st.none() | st.booleans(),
    turn_complete=st.none() | st.booleans(),
    branch=st.none() | TEXT,
    long_running_tool_ids=st.none() | st.sets(st.sampled_from("abc"), max_size=2),
    custom_metadata=st.none() | st.dictionaries(TEXT, JSON, max_size=2),
    grounding_metadata=st.none() | st.builds(types.GroundingMetadata, web_search_queries=st.lists(TEXT, max_size=1)),
    input_transcription=st.none() | st.builds(types.Transcription, text=TEXT, finished=st.booleans()),
    usage_metadata=st.none()
    | st.builds(types.GenerateContentResponseUsageMetadata, total_token_count=st.integers(0, 9)),
    timestamp=st.floats(1, 3) | st.floats(1.7e9, 1.8e9),
)  # fmt: skip
NODES = (
    {"node_info": st.sampled_from([{"path": ""}, {"path": "helper@1"}])} if "node_info" in Event.model_fields else {}
)
PLAIN = st.builds(
    Event,
    author=st.sampled_from(["user", "helper"]),
    invocation_id=st.sampled_from(["", "i"]) | TEXT,
    content=st.builds(
        types.Content,
        role=st.sampled_from(["user", "model"]),
        parts=st.lists(st.builds(types.Part, text=TEXT), min_size=1, max_size=1),
    ),
    timestamp=st.floats(1.7e9, 1.8e9),
    **NODES,
)
CONFIG = st.none() | st.builds(GetSessionConfig, num_recent_events=st.none() | st.integers(1, 4))


async def tell(service, events, config):
    """Append events to a session; return what the service then has, for its user, its app and others."""
    session = await service.create_session(**OF, session_id="s", state={"a": 1, "user:b": {"c": 1}})
    for each in events:
        await service.append_event(session, each.model_copy(deep=True))
    others = [{**OF, "session_id": "u"}, {**OF, "user_id": "bob"}, {**OF, "app_name": "another"}]
    made = [await service.create_session(**{"session_id": f"other {n}", **each}) for n, each in enumerate(others)]
    found = await service.get_session(**OF, session_id="s", config=config)
    listed = (await service.list_sessions(**OF)).sessions
    everyone = (await service.list_sessions(app_name="app")).sessions
    users = [await service.get_user_state(**OF)] if hasattr(BaseSessionService, "get_user_state") else []
    return (
        *(session.state, session.events, found.state, found.events, users),
        *([each.state for each in made], sorted((each.id, each.state, each.events) for each in listed)),
        sorted(each.id for each in everyone),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENT | PLAIN, max_size=4), CONFIG)
def test_events_of_all_kinds_come_back_as_from_the_adks_own_service(events, config):
    """Events and states are those that the InMemorySessionService returns, field by field, for each limit."""
    for n, each in enumerate(events):
        each.id = f"e{n}"
    ours = asyncio.run(tell(GoogleADKSessionService(SessionManager()), events, config))

    assert ours == asyncio.run(tell(InMemorySessionService(), events, config))


def said(text, *, event_id="", author="user", **state):
    content = types.Content(role="user" if author == "user" else "model", parts=[types.Part(text=text)])
    actions = EventActions(state_delta=state)
    return Event(id=event_id, author=author, invocation_id="i", content=content, actions=actions)


@pytest.fixture
def manager():
    return SessionManager()


@pytest.fixture
def service(manager):
    return GoogleADKSessionService(manager)


def test_the_program_of_the_page_prints_what_the_page_shows(tmp_path):
    """The page's program runs as it stands, and prints the page's output."""
    check_program("integrations.google_adk", tmp_path)


def test_it_is_a_service_of_the_adks(service):
    """A GoogleADKSessionService is a BaseSessionService."""
    assert isinstance(service, BaseSessionService)


def test_events_are_limited_by_time(service):
    """A limit selects the events from a time on, and of these the most recent. A limit of 0 selects none."""

    async def run():
        session = await service.create_session(**OF)
        for n in range(6):
            await service.append_event(session, said(str(n)).model_copy(update={"timestamp": float(n)}))
        configs = GetSessionConfig(after_timestamp=2.0, num_recent_events=3), GetSessionConfig(num_recent_events=0)
        return [await service.get_session(**OF, session_id=session.id, config=each) for each in configs]

    found = asyncio.run(run())

    assert [[each.timestamp for each in limited.events] for limited in found] == [[3.0, 4.0, 5.0], []]


def test_an_event_sets_the_time_of_the_session(service):
    """The session was updated when its newest event was made, in the copy in hand and in a loaded one."""

    async def run():
        session = await service.create_session(**OF, session_id="s")
        await service.append_event(session, said("Hi").model_copy(update={"timestamp": 1.8e9}))
        return session.last_update_time, (await service.get_session(**OF, session_id="s")).last_update_time

    assert asyncio.run(run()) == (1.8e9, 1.8e9)


def test_two_events_share_nothing_that_can_be_changed(service):
    """What an agent changes in an event it was given is in no other event."""

    async def loaded():
        return (await service.get_session(**OF, session_id="s")).events

    def told(events):
        return [each.model_dump_json() for each in events]

    async def story():
        session = await service.create_session(**OF, session_id="s")
        for n in range(3):
            await service.append_event(session, said(f"text {n}", author="helper"))
        before, changed = await loaded(), await loaded()
        texts = told(before)
        for each in changed[:2]:
            each.actions.state_delta["a"] = 1
            each.content.parts[0].text = "other"
            each.content.parts.append(types.Part(text="more"))
            if "node_info" in Event.model_fields:
                each.node_info.path = "other"
        assert told([changed[2]]) == texts[2:]
        assert told(before) == told(await loaded()) == texts

    asyncio.run(story())


def test_an_image_is_stored_once(service, manager):
    """Other models are given the image that the ADK stored: no second copy in the ADK's alphabet of base64 is kept."""
    image = types.Part.from_bytes(data=b"\xff\xfe\xfb", mime_type="image/png")

    async def run():
        session = await service.create_session(**OF, session_id="s")
        event = Event(author="user", content=types.Content(role="user", parts=[image]))
        await service.append_event(session, event)

    asyncio.run(run())

    [message] = manager.get_messages("s")
    assert message.content[0]["image_url"]["url"] == "data:image/png;base64,//77"
    assert "__77" not in str(message.metadata)


def test_a_stale_session_is_refused(service):
    """If two callers loaded a session, the second one's event is refused, and nothing of it is stored."""

    async def run():
        one = await service.create_session(**OF, session_id="s")
        other = await service.get_session(**OF, session_id="s")
        await service.append_event(one, said("first"))
        with pytest.raises(ValueError, match="load it again"):
            await service.append_event(other, said("second", **{"user:a": 1}))
        assert other.events == []
        other = await service.get_session(**OF, session_id="s")
        assert "user:a" not in other.state
        await service.append_event(other, said("second"))
        return await service.get_session(**OF, session_id="s")

    assert [each.content.parts[0].text for each in asyncio.run(run()).events] == ["first", "second"]


def test_of_two_concurrent_copies_one_adds_its_event(manager):
    """If two services add to copies of one session at the same time, one event is stored and the other refused."""

    async def run():
        services = [GoogleADKSessionService(manager) for _ in range(2)]
        await services[0].create_session(**OF, session_id="s")
        for n in range(4):
            copies = [await each.get_session(**OF, session_id="s") for each in services]
            adding = (
                service.append_event(copy, said(f"{n}", **{str(which): n}))
                for which, (service, copy) in enumerate(zip(services, copies, strict=True))
            )
            results = await asyncio.gather(*adding, return_exceptions=True)
            assert sum(isinstance(each, ValueError) for each in results) == 1
        return await services[0].get_session(**OF, session_id="s")

    session = asyncio.run(run())

    assert [each.content.parts[0].text for each in session.events] == ["0", "1", "2", "3"]
    added = [each.actions.state_delta for each in session.events]
    assert session.state == {key: value for each in added for key, value in each.items()}


def test_two_event_loops_add_to_one_session(service):
    """Loops of two threads use one service. An event is stored, or refused as that of a stale copy."""
    asyncio.run(service.create_session(**OF, session_id="s"))
    begin = Barrier(2)

    async def add():
        added = []
        for _ in range(20):
            session = await service.get_session(**OF, session_id="s")
            adding = (service.append_event(session, said("on")) for _ in range(3))
            added += await asyncio.gather(*adding, return_exceptions=True)
        return added

    def run(_):
        begin.wait(60)
        return asyncio.run(add())

    with ThreadPoolExecutor(2) as pool:
        added = [each for some in pool.map(run, range(2)) for each in some]

    stored = asyncio.run(service.get_session(**OF, session_id="s")).events
    assert all(isinstance(each, (Event, ValueError)) for each in added), added
    assert len(stored) == sum(isinstance(each, Event) for each in added) > 0


def test_a_session_is_not_stale_because_it_was_renamed(service, manager):
    """Another writer's title and state are kept, and the event is added."""

    async def run():
        session = await service.create_session(**OF, session_id="s")
        manager.update("s", title="Weather", state={"b": 1})
        await service.append_event(session, said("first", a=1))

    asyncio.run(run())

    stored = manager.get_session("s")
    assert (stored.title, stored.state, stored.message_count) == ("Weather", {"a": 1, "b": 1}, 1)


def test_branches_of_one_run_add_to_one_session_in_hand(service):
    """Tasks that share one loaded session all succeed: parallel agents work like that."""

    async def run():
        session = await service.create_session(**OF, session_id="s")
        await asyncio.gather(*(service.append_event(session, said(str(n))) for n in range(9)))
        return await service.get_session(**OF, session_id="s")

    assert len(asyncio.run(run()).events) == 9


def test_an_event_that_is_given_again_is_stored_once(service):
    """A caller may repeat a call whose outcome is unknown, also with an older copy of the session."""

    async def run():
        session = await service.create_session(**OF, session_id="s")
        former = await service.get_session(**OF, session_id="s")
        event = said("first", event_id="e")
        for each in (session, former):
            await service.append_event(each, event.model_copy(deep=True))
        await service.append_event(former, said("second"))
        return await service.get_session(**OF, session_id="s")

    assert [each.content.parts[0].text for each in asyncio.run(run()).events] == ["first", "second"]


def test_a_session_is_found_by_its_user_and_its_app_alone(service, manager):
    """Another user or app cannot read, delete or change the session, nor create one of the same id."""

    async def run():
        session = await service.create_session(**OF, session_id="s")
        for other in ({**OF, "user_id": "bob"}, {**OF, "app_name": "another"}):
            assert await service.get_session(**other, session_id="s") is None
            assert not (await service.list_sessions(**other)).sessions
            await service.delete_session(**other, session_id="s")
            with pytest.raises(AlreadyExistsError):
                await service.create_session(**other, session_id="s")
        with pytest.raises(SessionNotFoundError):
            await service.append_event(session.model_copy(update={"user_id": "bob"}), said("Hi"))
        manager.archive("s")
        with pytest.raises(SessionArchivedError):
            await service.append_event(session, said("Hi"))
        assert (await service.get_session(**OF, session_id="s")).model_dump() == session.model_dump()
        await service.delete_session(**OF, session_id="s")
        assert await service.get_session(**OF, session_id="s") is None
        with pytest.raises(SessionNotFoundError):
            await service.append_event(session, said("Hi"))

    asyncio.run(run())


def test_what_json_cannot_hold_is_refused(service):
    """A value that JSON cannot hold raises an error that says where it is, and nothing is stored."""

    async def run():
        with pytest.raises(InvalidValueError, match="state"):
            await service.create_session(**OF, state={"call": print, "app:a": 1})
        made = await service.create_session(**OF, state={"at": datetime(2026, 1, 1, tzinfo=timezone.utc)})
        assert made.state == {"at": "2026-01-01T00:00:00Z"}

    asyncio.run(run())


def test_a_conversation_of_others_is_continued(service, manager):
    """The model is given what your own code or another framework wrote; the assistant's words are the agent's own."""
    session = manager.create_session("ada", session_id="s")
    session.add_message("system", "Be brief.")
    session.add_message("user", "Is it warm in Oslo?")
    session.add_messages(
        [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "21 degrees"}]},
        ],
        format="anthropic",
    )
    session.add_message("assistant", "Yes.")
    manager.save(session)
    manager.append("s", {"role": "assistant", "content": None})
    named = GoogleADKSessionService(manager, agent_name="helper")

    found = asyncio.run(named.get_session(app_name="weather_app", user_id="ada", session_id="s"))
    told = asyncio.run(talk(named, "And now?"))

    assert [(each.author, each.content.role) for each in found.events] == [
        ("user", "user"), ("helper", "model"), ("helper", "user"), ("helper", "model"),
    ]  # fmt: skip
    assert [each["role"] for each in told["inputs"][0]] == ["user", "model", "user", "model", "user"]
    assert told["inputs"][0][1]["parts"][0]["function_call"]["name"] == "f"


@pytest.mark.parametrize("app_name", ["", None])
def test_an_app_without_a_name_is_refused(app_name):
    """A session of no app would be found by every app."""
    service = GoogleADKSessionService(SessionManager())

    with pytest.raises(InvalidValueError, match="app_name"):
        asyncio.run(service.create_session(app_name=app_name, user_id="ada"))
