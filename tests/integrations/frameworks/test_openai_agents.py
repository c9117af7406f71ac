"""Sessions under the runner of OpenAI's Agents SDK, over SQLite and Valkey, and beside the SDK's own session."""

import asyncio
import json
import subprocess
import sys

import agents.memory
import pytest
from agents import Agent, RunConfig, Runner, SQLiteSession
from agents.memory import Session

from pyai_sessions import SessionManager
from pyai_sessions.integrations.openai_agents import OpenAIAgentsSession
from tests.integrations.frameworks.openai_agents_chat import ScriptedModel, weather


@pytest.fixture(params=["sqlite", "a valkey server"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/chat.db"
    return request.getfixturevalue("valkey_server").url


def chat(url, question):
    """Ask in a process of its own, and return what it prints."""
    module = "tests.integrations.frameworks.openai_agents_chat"
    done = subprocess.run([sys.executable, "-m", module, url, question], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_conversation_is_resumed_in_another_process(url):
    """A second process gives the model all that was said in the first: question, reasoning, call, result and answer."""
    first = chat(url, "Is it warm?")
    second = chat(url, "And now?")

    kinds = [each.get("type", each.get("role")) for each in first["items"]]
    assert kinds == ["user", "reasoning", "function_call", "function_call_output", "message"]
    assert second["inputs"][0] == [*first["items"], {"role": "user", "content": "And now?"}]
    assert second["items"][:5] == first["items"]
    assert second["answer"] == "It has 21 degrees in Oslo."
    with SessionManager(url) as manager:
        [listed] = manager.list_sessions("ada")
        assert listed.message_count == 8


async def talk(session):
    """Return what a model is given in two turns, and the items of the session after them."""
    model = ScriptedModel()
    agent = Agent(name="helper", model=model, tools=[weather])
    for question in ("Is it warm?", "And now?"):
        await Runner.run(agent, question, session=session, run_config=RunConfig(tracing_disabled=True))
    return model.inputs, await session.get_items(), await session.get_items(3)


def test_the_runner_sees_what_it_sees_with_the_sdks_own_session():
    """The model is given the same, and the same items are stored, as with the SDK's SQLiteSession."""
    ours = asyncio.run(talk(OpenAIAgentsSession("s", SessionManager())))
    theirs = asyncio.run(talk(SQLiteSession("s")))

    assert ours == theirs


def test_it_fulfils_the_sdks_protocol():
    """The SDK takes it for a session."""
    assert isinstance(OpenAIAgentsSession("s", SessionManager()), Session)


def test_history_is_compacted_by_the_sdk():
    """The SDK's compaction replaces the items by those that its client returns, as with its own sessions."""
    compacting = getattr(agents.memory, "OpenAIResponsesCompactionSession", None)
    if compacting is None:  # a release before 0.7
        pytest.skip("this release of the SDK compacts nothing")

    class Client:
        class responses:  # noqa: N801
            @staticmethod
            async def compact(**_):
                class Compacted:
                    output = [{"type": "compaction", "id": "cmp_1", "encrypted_content": "c2VjcmV0"}]  # noqa: RUF012

                return Compacted

    async def compact(session):
        await session.add_items([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}])
        wrapped = compacting("s", session, client=Client(), model="gpt-5", compaction_mode="input")
        await wrapped.run_compaction({"force": True})
        return await session.get_items()

    ours = asyncio.run(compact(OpenAIAgentsSession("s", SessionManager())))

    assert ours == asyncio.run(compact(SQLiteSession("s")))
    assert [each["type"] for each in ours] == ["compaction"]
