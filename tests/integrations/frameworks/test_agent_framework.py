"""Sessions under the agents of Microsoft's Agent Framework, over SQLite and Valkey, and beside its own history."""

import asyncio
import json
import subprocess
import sys

import pytest
from agent_framework import Content, HistoryProvider, InMemoryHistoryProvider, Message

from pyai_sessions import InvalidValueError, SessionArchivedError, SessionExistsError, SessionManager
from pyai_sessions.integrations.agent_framework import AgentFrameworkHistory
from tests.integrations.frameworks.agent_framework_chat import talk
from tests.integrations.frameworks.guide import check_program


@pytest.fixture(params=["sqlite", "a valkey server"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/chat.db"
    return request.getfixturevalue("valkey_server").url


def chat(url, question):
    """Ask in a process of its own, and return what it prints."""
    module = "tests.integrations.frameworks.agent_framework_chat"
    done = subprocess.run([sys.executable, "-m", module, url, question], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def without_ids(value):
    """Return JSON without ids, and without what the framework notes of who gave a message."""
    if isinstance(value, dict):
        beside = ("id", "message_id", "author_name", "additional_properties")
        return {key: without_ids(each) for key, each in value.items() if key not in beside}
    return [without_ids(each) for each in value] if isinstance(value, list) else value


def test_a_conversation_is_resumed_in_another_process(url):
    """A second process gives the model all that was said in the first."""
    first = chat(url, "Is it warm?")
    second = chat(url, "And now?")

    assert second["answers"] == ["It has 21 degrees in Oslo and 21 degrees in Bergen."]
    assert without_ids(second["inputs"][0][:3]) == without_ids(first["inputs"][1])
    with SessionManager(url) as manager:
        [session] = manager.get_sessions_for_user("ada")
        assert [each["role"] for each in session.history(format="openai")] == 2 * [
            "user", "assistant", "tool", "tool", "assistant",
        ]  # fmt: skip


def test_the_agent_sees_what_it_sees_with_the_frameworks_own_history():
    """The model is given the same, and answers the same, as with an InMemoryHistoryProvider."""
    questions = "Is it warm?", "And now?"

    ours = asyncio.run(talk(AgentFrameworkHistory(SessionManager()), *questions))

    assert without_ids(ours) == without_ids(asyncio.run(talk(InMemoryHistoryProvider(), *questions)))


def test_messages_come_back_as_they_were_given():
    """Contents of the framework's own types, with what models add to them."""
    given = [
        Message("user", ["Hi", Content.from_data(b"\xff\xfe", "image/png")], additional_properties={"a": 1}),
        Message("assistant", [Content.from_text_reasoning(text="Hm.", protected_data="c2ln"), "Yes"], author_name="x"),
        Message("assistant", [Content.from_function_call("c", "f", arguments={"a": 1})], message_id="m"),
        Message("tool", [Content.from_function_result("c", result="21")]),
        Message("tool", [Content.from_function_result("c", exception="failed")]),
        Message("assistant", [Content.from_error(message="refused", error_code="1")]),
        Message("assistant", []),
    ]

    async def run():
        history = AgentFrameworkHistory(SessionManager())
        await history.save_messages("s", given)
        await history.save_messages("s", [])
        return await history.get_messages("s")

    assert [each.to_dict() for each in asyncio.run(run())] == [each.to_dict() for each in given]


def test_it_is_a_provider_of_the_framework():
    """The framework takes it for one, with its options."""
    history = AgentFrameworkHistory(SessionManager(), store_outputs=False)

    assert isinstance(history, HistoryProvider)
    assert (history.store_outputs, history.store_inputs) == (False, True)


def test_sessions_are_those_of_their_user():
    """Another user's has no messages and takes none; an archived one is read, and takes none."""
    manager = SessionManager()
    ours, others = (AgentFrameworkHistory(manager, user_id=each) for each in ("ada", "bob"))
    said = [Message("user", ["Hi"])]

    async def run():
        assert await ours.get_messages("s") == await ours.get_messages(None) == []
        await ours.save_messages("s", said)
        assert await others.get_messages("s") == []
        with pytest.raises(SessionExistsError):
            await others.save_messages("s", said)
        manager.archive("s")
        assert len(await ours.get_messages("s")) == 1
        with pytest.raises(SessionArchivedError):
            await ours.save_messages("s", said)
        with pytest.raises(InvalidValueError, match="session_id"):
            await ours.save_messages(None, said)

    asyncio.run(run())


def test_a_conversation_of_others_is_continued():
    """An agent takes up what your own code or another framework wrote."""
    manager = SessionManager()
    session = manager.create_session("ada", session_id="s")
    session.add_message("user", "Is it warm?")
    session.add_messages(
        [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "21 degrees"}]},
        ],
        format="anthropic",
    )
    manager.save(session)

    told = asyncio.run(talk(AgentFrameworkHistory(manager, user_id="ada"), "And now?"))["inputs"][0]

    assert [each["role"] for each in told] == ["user", "assistant", "tool", "user"]
    assert told[1]["contents"][0]["name"] == "f"
    assert told[2]["contents"][0]["result"] == "21 degrees"


def test_the_program_of_the_guide_prints_what_the_page_shows(tmp_path):
    """What the page shows for the framework runs."""
    check_program("Microsoft Agent Framework", tmp_path)
