"""Checkpoints of LangGraph: its conformance suite, its graphs over SQLite and Valkey, and beside its InMemorySaver."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from pyai_sessions import (
    AsyncSessionManager,
    InvalidValueError,
    SessionArchivedError,
    SessionExistsError,
    SessionManager,
    UnsupportedOperationError,
)
from pyai_sessions.integrations.langchain import items_of, messages_of
from pyai_sessions.integrations.langgraph import LangGraphSaver
from tests.integrations.frameworks.langgraph_chat import graph_of
from tests.integrations.frameworks.page import check_program

CONFIG = {"configurable": {"thread_id": "s"}}


@pytest.mark.parametrize("kind", [SessionManager, AsyncSessionManager])
def test_the_savers_keep_all_rules_of_langgraphs_conformance_suite(kind, url):
    """The saver has all capabilities of the suite, the extended ones too, over a sync and an async manager."""

    @checkpointer_test(name=kind.__name__)
    async def saver():
        yield LangGraphSaver(manager)

    async def run():
        nonlocal manager
        manager = kind(url)
        report = await validate(saver)
        closed = manager.close()
        if closed is not None:
            await closed
        return report

    manager = None
    results = asyncio.run(run()).results

    assert {name: each.failures for name, each in results.items() if not each.passed} == {}
    assert len(results) == 8


def test_a_thread_is_resumed_in_another_process(chat, url):
    """A second process gives the model all that was said in the first, and the thread is an ordinary session."""
    chat(url, "Is it warm?")
    second = chat(url, "And now?")

    assert [kind for kind, _ in second["given"][0]] == ["human", "ai", "tool", "ai", "human"]
    assert second["answer"] == "It has 21 degrees in Oslo."
    with SessionManager(url) as manager:
        [listed] = manager.get_sessions_for_user("ada")
    assert [each["role"] for each in listed.history(format="openai")] == ["user", "assistant", "tool", "assistant"] * 2


def shown(graph):
    """Return what a graph tells of a thread, without times and ids of messages."""
    return [
        (
            *(each.metadata["step"], each.metadata["source"], each.next),
            [(one.name, one.error, words(one.result or {})) for one in each.tasks],
            words(each.values),
        )
        for each in graph.get_state_history(CONFIG)
    ]


def words(state):
    return [getattr(each, "content", each) for each in state.get("messages", [])]


def talk(saver):
    """Talk, go on from an earlier checkpoint, edit and remove messages; return what the graph tells."""
    graph = graph_of(saver)
    graph.invoke({"messages": [("user", "Is it warm?")]}, CONFIG)
    graph.invoke({"messages": [("user", "And now?")]}, CONFIG)
    earlier = next(each for each in graph.get_state_history(CONFIG) if each.metadata["step"] == 3)
    graph.invoke({"messages": [("user", "And tomorrow?")]}, earlier.config)
    told = [shown(graph)]
    messages = graph.get_state(CONFIG).values["messages"]
    graph.update_state(CONFIG, {"messages": [RemoveMessage(id=each.id) for each in messages[:4]]}, as_node="model")
    graph.update_state(CONFIG, {"messages": [AIMessage("Cold.", id=messages[-1].id)]}, as_node="model")
    return [*told, shown(graph), [each.content for each in graph.get_state(earlier.config).values["messages"]]]


def test_a_graph_sees_what_it_sees_with_langgraphs_own_saver():
    """Turns, time travel, edits and removals give the same states, tasks and history."""
    assert talk(LangGraphSaver(SessionManager())) == talk(InMemorySaver())


def test_after_time_travel_the_session_is_the_conversation_that_went_on():
    """After time travel, the messages of the abandoned path are in no prompt. Their checkpoint still has them."""
    manager = SessionManager()
    talk(LangGraphSaver(manager))

    session = manager.get_session("s")

    said = [each["content"] for each in session.history(format="openai")]
    assert said == ["And tomorrow?", "", "21 degrees in Oslo", "Cold."]


TEXT = st.text(max_size=8)
INTS = st.integers(-(2**60), 2**60)  # what LangGraph's serializer takes
PARTS = st.lists(
    st.sampled_from(
        [
            {"type": "text", "text": "Look!"},
            {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
            {"type": "tool_use", "id": "c", "name": "f", "input": {}},
            {"type": "reasoning", "reasoning": "Hm."},
        ]
    ),
    max_size=2,
)
CALLS = st.lists(
    st.builds(
        dict,
        name=TEXT,
        args=st.dictionaries(TEXT, TEXT | INTS, max_size=2),
        id=st.none() | TEXT,
    ),
    max_size=2,
)
IDS = st.uuids().map(str)
EXTRA = st.dictionaries(TEXT, TEXT | st.lists(INTS, max_size=2), max_size=2)
ITEMS = (
    st.builds(HumanMessage, content=TEXT | PARTS, id=IDS, name=st.none() | TEXT, additional_kwargs=EXTRA)
    | st.builds(SystemMessage, content=TEXT, id=IDS)
    | st.builds(AIMessage, content=TEXT | PARTS, id=IDS, tool_calls=CALLS, response_metadata=EXTRA)
    | st.builds(
        AIMessage,
        content=TEXT,
        usage_metadata=st.just({"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
        invalid_tool_calls=st.just([{"name": "f", "args": "{", "id": "1", "error": None, "type": "invalid_tool_call"}]),
    )
    | st.builds(
        ToolMessage,
        content=TEXT | PARTS,
        id=IDS,
        tool_call_id=TEXT,
        status=st.sampled_from(["success", "error"]),
        artifact=st.none() | EXTRA | st.just((1, {2})) | st.binary(max_size=3),
    )
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ITEMS, max_size=4))
def test_messages_come_back_as_they_were(items):
    """Messages of every kind come back as LangGraph's serializer gives them, field by field."""
    saver = LangGraphSaver(SessionManager())
    items = saver.serde.loads_typed(saver.serde.dumps_typed(items))  # which makes lists of tuples

    saver.put(CONFIG, checkpoint(1, messages=items), {}, {})

    assert saver.get_tuple(CONFIG).checkpoint["channel_values"]["messages"] == items


def checkpoint(n, /, **values):
    """Return a checkpoint whose id is in order of *n*."""
    versions = dict.fromkeys(values, f"{n:032}.0")
    return {
        **empty_checkpoint(),
        "id": f"1f1eb5ca-{n:04x}-6000-8000-000000000000",
        "channel_values": values,
        "channel_versions": versions,
    }


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_history_of_checkpoints_is_that_of_langgraphs_own_saver(data):
    """After any puts, from any checkpoint, each checkpoint is found as it was stored, with its writes."""
    savers = [LangGraphSaver(SessionManager()), InMemorySaver()]
    stored, said = [None], {None: []}
    for n in range(1, data.draw(st.integers(1, 30)) + 1):
        if n % 10 == 0:
            savers[0] = LangGraphSaver(savers[0]._sync)  # another process
        parent = stored[-1] if data.draw(st.integers(0, 5)) else data.draw(st.sampled_from(stored))
        messages = list(said[parent])
        kind = data.draw(st.sampled_from(["add", "add", "add", "same", "edit", "remove"]))
        if kind == "add" or not messages:
            messages += [HumanMessage(f"{n}", id=f"h{n}"), AIMessage("Yes.", id=f"a{n}")][
                : data.draw(st.integers(0, 2))
            ]
        elif kind == "edit":
            place = data.draw(st.integers(0, len(messages) - 1))
            messages[place] = HumanMessage(f"edited {n}", id=messages[place].id)
        elif kind == "remove":
            del messages[data.draw(st.integers(0, len(messages) - 1))]
        made = checkpoint(n, messages=messages, n=n)
        config = {"configurable": {"thread_id": "s", "checkpoint_ns": "", "checkpoint_id": parent}}
        metadata = {"source": "loop", "step": n, "run_id": f"r{n % 3}"}
        told = [each.put(config, made, metadata, made["channel_versions"]) for each in savers]
        assert told[0] == told[1]
        stored.append(made["id"])
        said[made["id"]] = messages
        for task in data.draw(st.lists(st.sampled_from(["t", "u"]), max_size=2)):
            to = stored[-1] if data.draw(st.booleans()) else data.draw(st.sampled_from(stored[1:]))
            named = {"configurable": {"thread_id": "s", "checkpoint_ns": "", "checkpoint_id": to}}
            for each in savers:
                each.put_writes(named, [("messages", n), ("__error__", n)], task, task_path=data.draw(st.just("p")))
    named = {"thread_id": "s", "checkpoint_ns": ""}
    for where in ({"configurable": named | ({"checkpoint_id": each} if each else {})} for each in stored):
        mine, theirs = (each.get_tuple(where) for each in savers)
        assert in_order([mine]) == in_order([theirs])
    mine, theirs = (list(each.list(CONFIG, filter={"run_id": "r1"})) for each in savers)
    assert in_order(mine) == in_order(theirs)


def in_order(found):
    """Return checkpoints with sorted writes: earlier releases of LangGraph's own saver do not order them."""
    return [each._replace(pending_writes=sorted(each.pending_writes or [])) for each in found]


def test_a_conversation_of_others_is_continued():
    """A graph's state has the messages that other code wrote before its first turn, and between two turns."""
    manager = SessionManager()
    session = manager.create_session("ada", session_id="s")
    session.add_messages([{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hi!"}])
    manager.save(session)
    graph = graph_of(LangGraphSaver(manager))

    first = [each.content for each in graph.get_state(CONFIG).values["messages"]]
    graph.invoke({"messages": [("user", "Is it warm?")]}, CONFIG)
    manager.append("s", {"role": "user", "content": "Thanks."}, {"role": "assistant", "content": "Welcome."})
    graph.invoke({"messages": [("user", "And now?")]}, CONFIG)

    said = [each["content"] for each in manager.get_session("s").history(format="openai")]
    answer = ["", "21 degrees in Oslo", "It has 21 degrees in Oslo."]
    assert first == ["Hello!", "Hi!"]
    assert said == [*first, "Is it warm?", *answer, "Thanks.", "Welcome.", "And now?", *answer]


def test_what_is_added_while_a_graph_runs_stays():
    """A message appended between two checkpoints of a run is in the next state."""
    manager = SessionManager()
    saver = LangGraphSaver(manager)
    one = HumanMessage("one", id="1")
    saver.put(CONFIG, checkpoint(1, messages=[one]), {}, {})

    manager.append("s", {"role": "user", "content": "beside"})
    config = {"configurable": {"thread_id": "s", "checkpoint_id": checkpoint(1)["id"]}}
    saver.put(config, checkpoint(2, messages=[one, AIMessage("two", id="2")]), {}, {})

    said = saver.get_tuple(CONFIG).checkpoint["channel_values"]["messages"]
    assert [each.content for each in said] == ["one", "beside", "two"]


def test_a_message_changed_by_others_is_what_it_was_changed_to():
    """After an edit through the manager, the state has the new content, and of the old message the id alone."""
    manager = SessionManager()
    saver = LangGraphSaver(manager)
    saver.put(CONFIG, checkpoint(1, messages=[HumanMessage("old", id="1")]), {}, {})
    [message, _] = manager.get_messages("s")

    manager.replace_message("s", message, content="new")

    [said] = saver.get_tuple(CONFIG).checkpoint["channel_values"]["messages"]
    assert (said.content, said.id) == ("new", "1")


def test_what_a_graph_changes_in_place_is_not_in_the_next_state():
    """If a graph changes a message without returning it, the next state has the stored message."""
    manager = SessionManager()
    saver = LangGraphSaver(manager)
    saver.put(CONFIG, checkpoint(1, messages=[AIMessage("one", id="1", additional_kwargs={"a": 1})]), {}, {})

    for _ in range(2):
        [message] = saver.get_tuple(CONFIG).checkpoint["channel_values"]["messages"]
        assert (message.content, message.additional_kwargs) == ("one", {"a": 1})
        message.content, message.additional_kwargs["a"] = "changed", 2


def test_an_early_checkpoint_is_found_without_the_thread():
    """Time travel by id reads the log near the checkpoint, and nothing after it."""

    class Counted(SessionManager):
        read = 0

        def get_messages(self, *arguments, **options):
            page = super().get_messages(*arguments, **options)
            Counted.read += len(page)
            return page

    saver = LangGraphSaver(Counted())
    parent = None
    for n in range(1, 1001):
        config = {"configurable": {"thread_id": "s", "checkpoint_ns": "", "checkpoint_id": parent}}
        parent = saver.put(config, checkpoint(n, n=n), {}, {})["configurable"]["checkpoint_id"]

    config = {"configurable": {"thread_id": "s", "checkpoint_id": checkpoint(200)["id"]}}
    assert saver.get_tuple(config).checkpoint["channel_values"] == {"n": 200}
    assert Counted.read < 300


def test_writes_that_are_stored_before_their_checkpoint_are_found():
    """A task's writes may be stored before their checkpoint, since LangGraph stores both at once. They are found."""
    saver = LangGraphSaver(SessionManager())
    for n in range(1, 41):
        saver.put(CONFIG, checkpoint(n, n=n), {}, {})
    newest = {"configurable": {"thread_id": "s", "checkpoint_id": checkpoint(41)["id"]}}

    saver.put_writes(newest, [("c", "early")], "early")
    saver.put(CONFIG, checkpoint(41, n=41), {}, {})
    for n in range(31):
        saver.put_writes(newest, [("c", n)], f"t{n}")

    for config in (CONFIG, newest):
        assert ("early", "c", "early") in saver.get_tuple(config).pending_writes


def test_an_interrupted_graph_is_resumed():
    """A graph that waits for a person resumes with another saver."""
    manager = SessionManager()

    def graph():
        made = StateGraph(MessagesState)
        made.add_node("ask", lambda _: {"messages": [("ai", interrupt("Sure?"))]})
        made.add_edge(START, "ask")
        return made.compile(checkpointer=LangGraphSaver(manager))

    graph().invoke({"messages": [("user", "Delete it.")]}, CONFIG)
    state = graph().invoke(Command(resume="Yes."), CONFIG)

    assert [each.content for each in state["messages"]] == ["Delete it.", "Yes."]


def test_subgraphs_have_checkpoints_of_their_own():
    """A subgraph's states are found in the graph's state, and are not in the conversation."""
    manager = SessionManager()
    inner = StateGraph(MessagesState)
    inner.add_node("ask", lambda _: {"messages": [("ai", interrupt("Sure?"))]})
    inner.add_edge(START, "ask")
    outer = StateGraph(MessagesState)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    graph = outer.compile(checkpointer=LangGraphSaver(manager))

    graph.invoke({"messages": [("user", "Delete it.")]}, CONFIG)
    [task] = graph.get_state(CONFIG, subgraphs=True).tasks
    state = graph.invoke(Command(resume="Yes."), CONFIG)

    assert [each.content for each in task.state.values["messages"]] == ["Delete it."]
    assert [each.content for each in state["messages"]] == ["Delete it.", "Yes."]
    assert len(manager.get_session("s").history(format="openai")) == 2


def test_another_users_thread_is_not_read_and_not_written():
    """Another user's thread seems empty, and storing to it raises."""
    saver = LangGraphSaver(SessionManager())
    ada, bob = ({"configurable": {"thread_id": "s", "checkpoint_ns": "", "user_id": each}} for each in ("ada", "bob"))
    saver.put(ada, checkpoint(1, n=1), {}, {})

    assert saver.get_tuple(bob) is None
    assert list(saver.list(bob)) == []
    with pytest.raises(SessionExistsError):
        saver.put(bob, checkpoint(2, n=2), {}, {})
    assert saver.get_tuple(ada).checkpoint["channel_values"] == {"n": 1}


def test_an_archived_thread_is_read_and_not_written():
    """An archived thread still has its checkpoints, and takes no new ones."""
    manager = SessionManager()
    saver = LangGraphSaver(manager)
    saver.put(CONFIG, checkpoint(1, n=1), {}, {})
    manager.archive("s")

    assert saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"n": 1}
    with pytest.raises(SessionArchivedError):
        saver.put(CONFIG, checkpoint(2, n=2), {}, {})


def test_an_async_manager_offers_async_methods_alone():
    """A sync method of a saver over an async manager says what to do instead."""
    with pytest.raises(UnsupportedOperationError, match="give the saver a SessionManager"):
        LangGraphSaver(AsyncSessionManager()).get_tuple(CONFIG)


def test_pruning_keeps_what_was_said():
    """Pruning keeps the newest checkpoint and its messages, and removes the others."""
    manager = SessionManager()
    saver = LangGraphSaver(manager)
    told = talk(saver)

    saver.prune(["s"])

    assert shown(graph_of(saver)) == told[1][:1]
    assert manager.get_session("s").message_count == 5


def test_a_run_is_removed_without_its_words():
    """Removing a run's checkpoints changes neither the conversation nor the other checkpoints."""
    saver = LangGraphSaver(SessionManager())
    one, two = HumanMessage("one", id="1"), HumanMessage("two", id="2")
    saver.put(CONFIG, checkpoint(1, messages=[one]), {"run_id": "r1"}, {})
    saver.put(CONFIG, checkpoint(2, messages=[two]), {"run_id": "r2"}, {})
    saver.put(CONFIG, checkpoint(3, messages=[two, one]), {"run_id": "r1"}, {})

    saver.delete_for_runs(["r2"])

    assert [each.checkpoint["channel_values"]["messages"] for each in saver.list(CONFIG)] == [[two, one], [one]]


def test_messages_of_langchain_become_ours_and_come_back():
    """A message with a value that JSON cannot hold is refused, by its place, unless `pack=` is given."""
    items = [HumanMessage("Hello!"), AIMessage("Hi!", id="1")]

    assert items_of(messages_of(items)) == items
    with pytest.raises(ValueError, match=r"items\[1\]"):
        messages_of([*items[:1], ToolMessage("x", tool_call_id="1", artifact={1, 2})])


def test_what_a_graph_stores_at_once_is_stored_in_turn():
    """Each call finds the session as the one before has left it, so none is made twice."""

    async def check():
        async with AsyncSessionManager() as manager:
            revisions, update = [], manager.update

            async def counted(*arguments, **options):
                revisions.append(options.get("if_revision"))
                return await update(*arguments, **options)

            manager.update = counted
            saver = LangGraphSaver(manager)
            stored = await saver.aput(CONFIG, checkpoint(1), {}, {})
            await saver.aget_tuple(CONFIG)
            await saver.aput(stored, checkpoint(2), {}, {})
            stored["configurable"]["checkpoint_id"] = checkpoint(2)["id"]
            await asyncio.gather(*(saver.aput_writes(stored, [("c", n)], f"task {n}") for n in range(4)))
            return revisions, len((await saver.aget_tuple(CONFIG)).pending_writes)

    revisions, writes = asyncio.run(check())
    assert (len(revisions), writes) == (6, 4)


def test_a_thread_without_a_name_is_refused():
    """None is no id: as a text it would be the thread that all such calls share."""
    saver = LangGraphSaver(SessionManager())

    for call in (saver.get_tuple, lambda config: saver.put(config, checkpoint(1), {}, {})):
        with pytest.raises(InvalidValueError, match="thread_id"):
            call({"configurable": {"thread_id": None}})
    with pytest.raises(InvalidValueError, match="thread_id"):
        saver.delete_thread(None)


def test_the_program_of_the_page_prints_what_the_page_shows(tmp_path):
    """The page's program runs as it stands, and prints the page's output."""
    check_program("integrations.langgraph", tmp_path)
