"""examples/fastapi_chat.py over real HTTP: uvicorn on 127.0.0.1, and httpx as its client."""

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from starlette.requests import ClientDisconnect

from tests.servers import find_free_port
from tests.test_examples import CLEAN, EXAMPLES

pytestmark = pytest.mark.wide

DEADLINE = 60.0  # seconds for what happens at once on an idle machine


@pytest.fixture(params=["sqlite", "valkey"])
def url(request, tmp_path):
    """A store's URL for SESSIONS."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'chats.db'}"
    server = request.getfixturevalue("valkey_server")
    return f"{server.url}?prefix={tmp_path.name}:"


@pytest.fixture
def example(url, monkeypatch):
    """The example as a module, whose app opens this test's store."""
    monkeypatch.setenv("SESSIONS", url)
    spec = importlib.util.spec_from_file_location("fastapi_chat", EXAMPLES / "fastapi_chat.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def served(example):
    """The URL of the app, which a thread serves."""
    port = find_free_port()
    server = uvicorn.Server(uvicorn.Config(example.app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(DEADLINE)


@pytest.fixture
def client(served):
    """A client of the app that ignores proxies."""
    with httpx.Client(base_url=served, timeout=DEADLINE, trust_env=False) as client:
        yield client


def wait_until(true):
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def said(client, user="ada"):
    """Return (role, content) of all messages of a user."""
    return [(each["role"], each["content"]) for each in client.get(f"/chat/{user}").raise_for_status().json()]


def shown(client, user="ada"):
    """Return the newest messages of a user's chat, as a chat window shows them."""
    return client.get(f"/chats/{user}/{user}").raise_for_status().json()["messages"]


def ask(client, message, user="ada"):
    """Send a message, and return the answer."""
    return client.post(f"/chat/{user}", json={"message": message}).raise_for_status().text.strip()


def ask_all(served, requests):
    """Send messages, as (user, message), at the same time, and return the answers."""

    async def run():
        async with httpx.AsyncClient(base_url=served, timeout=DEADLINE, trust_env=False) as client:
            calls = [client.post(f"/chat/{user}", json={"message": message}) for user, message in requests]
            return [each.raise_for_status().text.strip() for each in await asyncio.gather(*calls)]

    return asyncio.run(run())


def test_a_chat_goes_on_over_several_requests(client, example, monkeypatch):
    """Each request gives the model the messages of earlier ones."""

    async def count(history):
        yield f"You said {len(history)} "
        yield "things."

    monkeypatch.setattr(example, "ask_model", count)

    answers = [ask(client, "One"), ask(client, "Two")]

    assert answers == ["You said 1 things.", "You said 3 things."]
    assert said(client) == [("user", "One"), ("assistant", answers[0]), ("user", "Two"), ("assistant", answers[1])]


def test_an_answer_comes_word_by_word(client):
    """The answer is streamed, and stored as streamed."""
    with client.stream("POST", "/chat/ada", json={"message": "I like trains."}) as response:
        parts = list(response.iter_text())

    assert len(parts) > 1
    assert said(client) == [("user", "I like trains."), ("assistant", "".join(parts).strip())]


def test_an_answer_comes_as_server_sent_events_where_they_are_asked_for(client):
    """As server-sent events, each word is JSON, and the last event says "done". The stored answer is the same."""
    with client.stream(
        "POST", "/chat/ada", json={"message": "I like trains."}, headers={"Accept": "text/event-stream"}
    ) as response:
        kind = response.headers["content-type"]
        events = "".join(response.iter_text()).split("\n\n")

    assert kind.startswith("text/event-stream")
    assert events[-2:] == ["event: done\ndata: null", ""]
    words = [json.loads(each.removeprefix("data: ")) for each in events[:-2]]
    assert len(words) > 1
    assert said(client) == [("user", "I like trains."), ("assistant", "".join(words).strip())]


def test_a_window_lists_chats_and_scrolls_up(client):
    """Pages of chats and messages have cursors. Other users' chats are not found."""
    for n in range(3):
        ask(client, f"I have {n} cats.")

    [chat] = client.get("/chats/ada").json()["sessions"]
    newest = client.get(f"/chats/ada/{chat['session_id']}", params={"limit": 4}).json()
    older = client.get("/chats/ada/ada", params={"limit": 4, "before": newest["messages"][0]["message_id"]}).json()

    assert chat["message_count"] == 6
    assert [each["role"] for each in older["messages"] + newest["messages"]] == ["user", "assistant"] * 3
    assert older["messages"][0]["content"] == "I have 0 cats."
    assert (newest["has_older"], older["has_older"], older["has_newer"]) == (True, False, True)
    assert client.get("/chats/grace").json() == {"sessions": [], "next_cursor": None}
    assert client.get("/chats/grace/ada").status_code == 404
    assert client.get("/chats/ada/ada", params={"before": "unknown"}).status_code == 404


def test_two_users_have_conversations_apart(client):
    """A user's session has only the user's messages."""
    for user in ("ada", "grace"):
        ask(client, f"I am {user}.", user)

    assert said(client, "ada")[0] == ("user", "I am ada.")
    assert said(client, "grace")[0] == ("user", "I am grace.")
    assert [len(said(client, user)) for user in ("ada", "grace", "nobody")] == [2, 2, 0]


def test_fifty_users_at_the_same_time_each_get_their_answer(served, client):
    """Messages of many users at the same time are stored in their own sessions."""
    users = [f"user {n}" for n in range(50)]

    answers = ask_all(served, [(user, f"I am {user}.") for user in users])

    for user, answer in zip(users, answers, strict=True):
        assert said(client, user) == [("user", f"I am {user}."), ("assistant", answer)]


def test_requests_of_one_user_at_the_same_time_lose_nothing(served, client):
    """Twenty requests at once make one session with each message and answer once."""
    messages = [f"My number is {n}" for n in range(20)]

    answers = ask_all(served, [("ada", message) for message in messages])

    stored = said(client)
    assert Counter(stored) == Counter([("user", each) for each in messages] + [("assistant", each) for each in answers])
    roles = [role for role, _ in stored]
    assert all(roles[:n].count("user") >= roles[:n].count("assistant") for n in range(len(roles) + 1))


@pytest.mark.parametrize("words", [[], ["Once "], ["Once ", "upon ", "a "]], ids=len)
def test_of_an_answer_that_the_client_leaves_what_was_streamed_is_kept(client, example, monkeypatch, words):
    """If the client leaves, the model is stopped, and the answer so far is stored."""
    stopped = threading.Event()

    async def hesitate(_history):
        try:
            for word in words:
                yield word
            await asyncio.Event().wait()
        finally:
            stopped.set()

    monkeypatch.setattr(example, "ask_model", hesitate)
    with client.stream("POST", "/chat/ada", json={"message": "Tell me a story."}) as response:
        came = ""
        for part in response.iter_text() if words else ():
            came += part
            if came == "".join(words):
                break

    assert stopped.wait(DEADLINE)
    kept = [("user", "Tell me a story."), *([("assistant", came)] if words else [])]
    wait_until(lambda: shown(client)[-1].get("cut_off") or not words)
    assert said(client) == kept
    monkeypatch.undo()
    ask(client, "Go on.")
    assert len(said(client)) == len(kept) + 2


def test_a_client_that_stops_reading_and_leaves_ends_the_answer(client, example, monkeypatch):
    """If the client stops reading and leaves, the answer so far is stored."""

    async def never_end(_history):
        while True:
            await asyncio.sleep(0)  # a model that is read from a socket lets others run
            yield "word " * 10_000

    monkeypatch.setattr(example, "ask_model", never_end)
    with client.stream("POST", "/chat/ada", json={"message": "Tell me a story."}) as response:
        next(response.iter_text())

    wait_until(lambda: shown(client)[-1].get("cut_off"))
    words = said(client)[1][1].strip().split(" ")
    assert set(words) == {"word"}
    assert len(words) % 10_000 == 0


def test_where_sending_raises_the_answer_is_stored_before_the_error_comes_out(example):
    """If `send` raises because the client left, the answer is stored before the error is raised."""
    body = {"type": "http.request", "body": b'{"message": "Tell me a story."}', "more_body": False}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/chat/ada",
        "query_string": b"",
        "asgi": {"spec_version": "2.4"},
    }
    scope["headers"] = [(b"content-type", b"application/json")]

    async def receive():
        return body

    async def send(event):
        if event["type"] == "http.response.body":
            raise OSError

    async def run():
        async with example.lifespan(example.app):
            with pytest.raises(ClientDisconnect) as raised:
                await example.app(scope, receive, send)
            session = await example.app.state.manager.get_session("ada")
            return raised, [each.role for each in session.messages]  # raised: as a log, it keeps all frames alive

    _, roles = asyncio.run(run())

    assert roles == ["user", "assistant"]


def test_what_cannot_be_a_message_is_refused_and_stores_nothing(client):
    """A request without a message is a client error, and stores nothing."""
    assert client.post("/chat/ada", json={"text": "Hello"}).status_code == 422
    assert said(client) == []


def test_sessions_outlive_the_server(tmp_path):
    """A server that is stopped and started as documented continues the sessions."""
    with serving(tmp_path) as client:
        answer = ask(client, "I like trains.")
    with serving(tmp_path) as client:
        assert said(client) == [("user", "I like trains."), ("assistant", answer)]
        ask(client, "I feel better now.")

        assert len(said(client)) == 4
    assert (tmp_path / "chats.db").exists()


HESITANT = f"""
import asyncio, os, sys
sys.path.insert(0, {os.fspath(EXAMPLES)!r})
import fastapi_chat, uvicorn

async def hesitate(history):
    for word in ("Once", " upon", " a"):
        yield word
    await asyncio.Event().wait()

fastapi_chat.ask_model = hesitate
uvicorn.run(fastapi_chat.app, port=int(os.environ["PORT"]))
"""


def test_a_server_that_is_killed_in_the_middle_of_an_answer_leaves_what_it_said(tmp_path):
    """After a kill within an answer, the window shows it, and the chat goes on."""
    with serving(tmp_path) as client:
        for n in range(3):
            ask(client, f"I have {n} cats.")
    port = find_free_port()
    env = {key: value for key, value in CLEAN.items() if key != "SESSIONS"} | {"PORT": str(port)}
    with (
        subprocess.Popen([sys.executable, "-c", HESITANT], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE, trust_env=False) as client,
    ):
        wait_until(lambda: answers(client) or process.poll() is not None)
        with client.stream("POST", "/chat/ada", json={"message": "Tell me a story."}) as response:
            came = ""
            for part in response.iter_text():
                came += part
                if came == "Once upon a":
                    break
            process.kill()

    with serving(tmp_path) as client:
        newest = client.get("/chats/ada/ada", params={"limit": 3}).json()
        older = client.get("/chats/ada/ada", params={"limit": 3, "before": newest["messages"][0]["message_id"]}).json()
        answer = newest["messages"][-1]
        assert answer["content"].startswith("Once")
        assert "growing_until" in answer
        assert [each["role"] for each in older["messages"] + newest["messages"]] == ["user", "assistant"] * 3
        assert newest["messages"][-2]["content"] == "Tell me a story."
        ask(client, "Go on.")
        assert said(client)[-3] == ("assistant", answer["content"])
        assert len(said(client)) == 10


@contextmanager
def serving(folder):
    """Serve the example in a process with its default store."""
    port = find_free_port()
    env = {key: value for key, value in CLEAN.items() if key != "SESSIONS"} | {"PORT": str(port)}
    command = [sys.executable, os.fspath(EXAMPLES / "fastapi_chat.py")]
    with subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE, trust_env=False) as client:
                wait_until(lambda: answers(client) or process.poll() is not None)
                yield client
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert "Application shutdown complete" in told
    assert "Traceback" not in told


def answers(client):
    try:
        return client.get("/chat/nobody").is_success
    except httpx.TransportError:
        return False
