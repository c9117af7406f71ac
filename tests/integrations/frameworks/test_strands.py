"""Sessions under the session managers of Strands Agents, over SQLite and Valkey, and beside Strands' own files."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strands import Agent
from strands.session.file_session_manager import FileSessionManager
from strands.session.repository_session_manager import RepositorySessionManager
from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from pyai_sessions import AsyncSessionManager, InvalidValueError, SessionArchivedError, SessionManager
from pyai_sessions.integrations.strands import StrandsSessionRepository
from tests.integrations.frameworks.page import check_program
from tests.integrations.frameworks.strands_chat import ScriptedModel, talk, weather


def said(messages):
    """Return messages without what differs from run to run."""
    return [(each["role"], each["content"]) for each in messages]


def test_a_conversation_is_resumed_in_another_process(chat, url):
    """A second process gives the model all that was said in the first, and the agent its state."""
    first = chat(url, "Is it warm?")
    second = chat(url, "And now?")

    assert second["messages"][:4] == first["messages"]
    assert said(second["inputs"][0][:4]) == said(first["messages"])
    assert second["state"] == {"asked": 2}
    with SessionManager(url) as manager:
        [session] = manager.get_sessions_for_user("ada")
        assert session.message_count == 8
        assert [each["role"] for each in session.history(format="openai")] == 2 * [
            "user", "assistant", "tool", "tool", "assistant",
        ]  # fmt: skip


def test_the_agent_sees_what_it_sees_with_strands_own_files(tmp_path):
    """The model is given the same, and the same messages and state come back, as with a FileSessionManager."""
    files = FileSessionManager("other", storage_dir=str(tmp_path))
    repository = StrandsSessionRepository(SessionManager())

    for question in ("Is it warm?", "And now?"):
        ours, theirs = talk(repository, question), talk(files, question)
        assert ours["answers"] == theirs["answers"]
        assert ours["state"] == theirs["state"]
        assert said(ours["messages"]) == said(theirs["messages"])
        assert list(map(said, ours["inputs"])) == list(map(said, theirs["inputs"]))


# Each call, beside Strands' own files ---------------------------------------------------------------------------------


@pytest.fixture
def manager():
    return SessionManager()


@pytest.fixture(params=["ours", "files"])
def repository(request, manager, tmp_path):
    if request.param == "ours":
        return StrandsSessionRepository(manager)
    return FileSessionManager("unused", storage_dir=str(tmp_path))


@pytest.fixture
def session():
    return Session("s", SessionType.AGENT)


def agent(name="one", **state):
    return SessionAgent(name, state, {"__name__": "X", "removed_message_count": 0}, {"model_state": {"a": [1]}})


def message(n, text):
    return SessionMessage({"role": "user", "content": [{"text": text}], "tracking_id": f"t{n}"}, n)


def test_a_session_is_read_as_it_was_created(repository, session):
    """A session has the type and times that were given. A second session of its id is refused."""
    assert repository.read_session("s") is None
    assert repository.create_session(session) == session

    assert repository.read_session("s") == session
    with pytest.raises(SessionException):
        repository.create_session(session)


def test_an_agent_is_read_as_it_was_stored(repository, session):
    """An update replaces an agent's whole state, and keeps the time of its creation."""
    repository.create_session(session)
    assert repository.read_agent("s", "one") is None
    first, later = agent(a={"b": 1}, gone=True), agent(a={"c": 2})

    repository.create_agent("s", first)
    assert repository.read_agent("s", "one") == first
    repository.update_agent("s", later)

    found = repository.read_agent("s", "one")
    assert (found.state, found.created_at, found.updated_at) == ({"a": {"c": 2}}, first.created_at, later.updated_at)
    with pytest.raises(SessionException):
        repository.update_agent("s", agent("another"))


TEXT = st.text(max_size=8)
USE_ID = st.sampled_from("ab")
JSON = st.none() | st.booleans() | st.integers(-9, 9) | TEXT | st.lists(TEXT, max_size=2)
OBJECT = st.dictionaries(TEXT, JSON, max_size=2)


def block(kind, **fields):
    return st.fixed_dictionaries({kind: st.fixed_dictionaries(fields)})


SOURCE = st.fixed_dictionaries({"bytes": st.binary(max_size=6)})
SAID = st.one_of(
    st.fixed_dictionaries({"text": TEXT}),
    block("image", format=st.sampled_from(["png", "webp"]), source=SOURCE),
    block("document", format=st.just("pdf"), name=TEXT, source=SOURCE),
    block("video", format=st.just("mp4"), source=SOURCE),
)
BLOCK = st.one_of(
    SAID,
    block("toolUse", toolUseId=USE_ID, name=TEXT, input=OBJECT),
    block(
        "toolResult",
        toolUseId=USE_ID,
        status=st.sampled_from(["success", "error"]),
        content=st.lists(SAID | st.fixed_dictionaries({"json": OBJECT}), max_size=2),
    ),
    block("reasoningContent", reasoningText=st.fixed_dictionaries({"text": TEXT}, optional={"signature": TEXT})),
    block("reasoningContent", redactedContent=st.binary(max_size=6)),
    block("guardContent", text=st.fixed_dictionaries({"text": TEXT, "qualifiers": st.just(["query"])})),
    block("cachePoint", type=st.just("default")),
)
SPOKEN = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.lists(BLOCK, max_size=3)})
REDACTED = st.none() | st.fixed_dictionaries({"role": st.just("user"), "content": st.just([{"text": "[redacted]"}])})


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.lists(st.builds(SessionMessage, message=SPOKEN, message_id=st.none(), redact_message=REDACTED), max_size=4))
def test_messages_come_back_as_they_were_given(stored):
    """Blocks of every kind come back equal, with bytes as bytes, in the list and one by one."""
    repository = StrandsSessionRepository(SessionManager())
    repository.create_session(Session("s", SessionType.AGENT))
    repository.create_agent("s", agent())
    for n, each in enumerate(stored):
        each.message_id = n
        repository.create_message("s", "one", each)

    assert repository.list_messages("s", "one") == stored
    assert [repository.read_message("s", "one", n) for n in range(len(stored))] == stored


def test_messages_are_listed_from_any_place(repository, session):
    """Messages are listed in order, from any offset and up to any limit, and each is read by its place."""
    repository.create_session(session)
    repository.create_agent("s", agent())
    picture = {"image": {"format": "png", "source": {"bytes": b"\xff\xfe\xfb"}}}
    stored = [message(n, str(n)) for n in range(40)]
    stored[3].message["content"].append(picture)
    for each in stored:
        repository.create_message("s", "one", each)

    assert repository.list_messages("s", "one") == stored
    for limit, offset in ((3, 0), (None, 37), (2, 5), (9, 38), (None, 40), (1, 50)):
        end = None if limit is None else offset + limit
        assert repository.list_messages("s", "one", limit=limit, offset=offset) == stored[offset:end]
    assert repository.read_message("s", "one", 3) == stored[3]
    assert repository.read_message("s", "one", 40) is None


def test_a_message_is_redacted(repository, session):
    """A redacted message comes back with both contents. Redacting a message that is not stored raises."""
    repository.create_session(session)
    repository.create_agent("s", agent())
    stored = [message(n, "secret") for n in range(3)]
    for each in stored:
        repository.create_message("s", "one", each)
    for each in (stored[2], stored[0]):
        each.redact_message = {"role": "user", "content": [{"text": "[redacted]"}]}
        repository.update_message("s", "one", each)

    assert repository.list_messages("s", "one") == stored
    with pytest.raises(SessionException):
        repository.update_message("s", "one", message(7, "unknown"))


def test_agents_of_a_session_have_messages_of_their_own(repository, session):
    """Each agent lists its own messages."""
    repository.create_session(session)
    for name in ("one", "two"):
        repository.create_agent("s", agent(name))
        repository.create_message("s", name, message(0, name))
    repository.update_agent("s", agent("one", a=1))

    found = {name: [each.message["content"] for each in repository.list_messages("s", name)] for name in ("one", "two")}
    assert found == {"one": [[{"text": "one"}]], "two": [[{"text": "two"}]]}


def test_the_state_of_a_graph_is_kept(repository, session):
    """A graph's state is read as it was stored last."""

    class Graph:
        id = "graph"
        state = {"nodes": ["a"]}  # noqa: RUF012

        def serialize_state(self):
            return self.state

    repository.create_session(session)
    if not hasattr(repository, "create_multi_agent") or "create_multi_agent" not in vars(SessionRepository):
        return  # a release before graphs
    assert repository.read_multi_agent("s", "graph") is None
    with pytest.raises(SessionException):
        repository.update_multi_agent("s", Graph())
    repository.create_multi_agent("s", Graph())
    Graph.state = {"nodes": ["b"], "done": True}
    repository.update_multi_agent("s", Graph())

    assert repository.read_multi_agent("s", "graph") == Graph.state


# What is ours ---------------------------------------------------------------------------------------------------------


def test_it_is_a_repository_of_strands(manager):
    """A StrandsSessionRepository is a SessionRepository. Given an AsyncSessionManager, it uses the manager's store."""
    assert isinstance(StrandsSessionRepository(manager), SessionRepository)
    repository = StrandsSessionRepository(AsyncSessionManager(manager))
    repository.create_session(Session("s", SessionType.AGENT))
    assert manager.get_session("s") is not None


def test_what_a_guardrail_redacts_is_found_by_no_search(manager, session):
    """After a redaction, search and history have the replacement alone."""
    repository = StrandsSessionRepository(manager)
    repository.create_session(session)
    repository.create_agent("s", agent())
    stored = message(0, "secret")
    repository.create_message("s", "one", stored)
    stored.redact_message = {"role": "user", "content": [{"text": "[redacted]"}]}

    repository.update_message("s", "one", stored)

    assert not list(manager.search("secret"))
    assert manager.get_session("s").history(format="openai")[0]["content"] == "[redacted]"


def test_two_agents_that_add_at_the_same_place_keep_both_messages(manager, session):
    """Two processes may continue one session: neither message is lost."""
    repository = StrandsSessionRepository(manager)
    repository.create_session(session)
    repository.create_agent("s", agent())
    for text in ("mine", "yours"):
        StrandsSessionRepository(manager).create_message("s", "one", message(0, text))

    assert [each.message_id for each in repository.list_messages("s", "one")] == [0, 1]


def test_sessions_are_those_of_their_user(manager, session):
    """Another user's session is not found, and its id is taken. An archived session is read, and takes no message."""
    ours, others = (StrandsSessionRepository(manager, user_id=each) for each in ("ada", "bob"))
    ours.create_session(session)
    ours.create_agent("s", agent())

    assert others.read_session("s") is None
    with pytest.raises(SessionException):
        others.create_session(session)
    with pytest.raises(SessionException):
        others.create_message("s", "one", message(0, "Hi"))
    manager.archive("s")
    assert ours.read_session("s") == session
    with pytest.raises(SessionArchivedError):
        ours.create_message("s", "one", message(0, "Hi"))


def test_a_conversation_of_others_is_continued(manager):
    """The model is given what your own code or another framework wrote, with the results of parallel calls."""
    found = manager.create_session("ada", session_id="s")
    found.add_message("user", "Is it warm?")
    calls = [{"id": each, "type": "function", "function": {"name": "weather", "arguments": "{}"}} for each in "ab"]
    found.add_message("assistant", None, tool_calls=calls)
    for each in "ab":
        found.add_message("tool", "21 degrees", tool_call_id=each)
    found.add_message("assistant", "Yes.")
    manager.save(found)
    model = ScriptedModel()

    strands = RepositorySessionManager("s", StrandsSessionRepository(manager, user_id="ada"))
    asyncio.run(
        Agent(model=model, tools=[weather], session_manager=strands, callback_handler=None).invoke_async("Now?")
    )

    kinds = [[next(iter(block)) for block in each["content"]] for each in model.inputs[0]]
    assert kinds == [["text"], ["toolUse"] * 2, ["toolResult"] * 2, ["text"], ["text"]]
    assert [each["toolResult"]["content"] for each in model.inputs[0][2]["content"]] == [[{"text": "21 degrees"}]] * 2
    assert manager.get_session("s").message_count == 9


def test_the_program_of_the_page_prints_what_the_page_shows(tmp_path):
    """The page's program runs as it stands, and prints the page's output."""
    check_program("integrations.strands", tmp_path)


def test_an_agent_without_an_id_is_refused():
    """Its messages would lie in a session whose id ends with a slash."""
    repository = StrandsSessionRepository(SessionManager())
    repository.create_session(Session("s", SessionType.AGENT))

    with pytest.raises(InvalidValueError, match="agent_id"):
        repository.create_agent("s", SessionAgent(agent_id="", state={}, conversation_manager_state={}))
