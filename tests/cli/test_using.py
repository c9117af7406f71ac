"""`browse`, `chat` and `mcp`: a screen, a conversation and a server."""

import asyncio
import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Condition, Event, Thread

import pytest
from textual.widgets import Input, OptionList, Static
from textual.worker import get_current_worker

from pyai_sessions import InvalidValueError, SessionManager, __version__
from pyai_sessions.cli import chatting
from pyai_sessions.cli.browser import Browser
from pyai_sessions.cli.serving import Past


@pytest.fixture
def manager(store):
    with SessionManager(store) as manager:
        yield manager


def type_in(monkeypatch, *lines):
    """Simulate a person who types these lines, and then Ctrl-D."""
    left = iter(lines)

    def read(_=""):
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(chatting, "input", read, raising=False)


def test_a_chat_is_stored_and_goes_on(cli, monkeypatch):
    """Without a server ELIZA answers. The next chat continues the session."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    type_in(monkeypatch, "Hello!", "", "I need a train.")
    assert cli("chat", "talk", "--user", "ada", "--store", "talk.db").code == 0

    type_in(monkeypatch, "Bye.")
    ran = cli("chat", "talk", "--store", "talk.db")

    with SessionManager("sqlite:///talk.db") as manager:
        session = manager.get_session("talk", user_id="ada")
    assert [each.role for each in session.messages] == ["user", "assistant"] * 3
    assert ran.out.strip() == session.messages[-1].content.strip()
    assert "4 messages" in ran.err
    ran = cli("chat", "talk", "--user", "bob", "--store", "talk.db")
    assert (ran.code, "of another user" in ran.err) == (1, True)


class Model(BaseHTTPRequestHandler):
    """A model that answers with an escape sequence, and stops in the middle if asked to."""

    asked: list = []  # noqa: RUF012 (of this process's tests)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        self.send_response(200)
        self.end_headers()
        for part in ("Hello", " \x1b[31mAda"):
            self.wfile.write(f"data: {json.dumps({'choices': [{'delta': {'content': part}}]})}\n\n".encode())
        if body["messages"][-1]["content"] != "Break off.":
            self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def model(monkeypatch):
    Model.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Model) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        yield server
        server.shutdown()


@pytest.mark.usefixtures("model")
def test_a_model_behind_a_server_answers(cli, monkeypatch):
    """A model gets the conversation and the session's instructions. Its answer cannot move the cursor."""
    type_in(monkeypatch, "Hi!")

    ran = cli("chat", "talk", "--system", "Be kind.", "--model", "m-1", "--store", "talk.db")

    assert ran.out == "Hello \\x1b[31mAda\n"
    assert [each["role"] for each in Model.asked[0]["messages"]] == ["system", "user"]
    assert Model.asked[0]["model"] == "m-1"


@pytest.mark.usefixtures("model")
def test_a_question_is_kept_whose_answer_broke_off_and_answered_the_next_time(cli, monkeypatch):
    """If an answer breaks off, the question is kept without it, and answered the next time."""
    type_in(monkeypatch, "Break off.")
    assert cli("chat", "talk", "--store", "talk.db").code == 1
    with SessionManager("sqlite:///talk.db") as manager:
        assert [each.role for each in manager.get_session("talk").messages] == ["user"]
        manager.append("talk", {"role": "user", "content": "Now?"})

    type_in(monkeypatch)
    cli("chat", "talk", "--store", "talk.db")

    with SessionManager("sqlite:///talk.db") as manager:
        assert [each.role for each in manager.get_session("talk").messages] == ["user", "user", "assistant"]


def screen(manager, story, browser=Browser, **options):
    """Run the browser without a terminal, with keys pressed by *story*."""

    async def run():
        app = browser(manager, **{"interval": 0.05, "pause": 0.01} | options)
        async with app.run_test(size=(120, 40)) as pilot:

            async def settle(holds):
                while not holds():  # pytest's own timeout says where this hangs
                    await pilot.pause(0.02)

            def text(name):
                return str(app.query_one(f"#{name}", Static).render())

            await story(app, pilot, settle, text)

    asyncio.run(run())


def test_the_browser_shows_a_list_and_the_conversation_that_is_chosen(manager):
    """The key "j" goes down the list, and the transcript follows. No escape sequence is obeyed."""

    async def story(app, pilot, settle, text):
        listed = app.query_one(OptionList)
        await settle(lambda: listed.option_count == 3)
        await settle(lambda: "empty" in text("about"))
        assert [len(str(listed.get_option_at_index(n).prompt).split("\n")[0]) <= 37 for n in range(3)] == [True] * 3
        await pilot.press("j")
        await settle(lambda: "\\x1b[31mred" in text("transcript"))
        await pilot.press("j")
        await settle(lambda: "Is there a night train" in text("transcript"))

    screen(manager, story)


def test_a_session_takes_two_lines_of_the_browsers_list(manager):
    """Long titles and users are cut. An id is shown as it is, with its spaces."""
    manager.create_session("a  user" * 9, session_id="an  id", title="A title of many words " * 9)
    manager.create_session("a  user", session_id="a  b")

    async def story(app, pilot, settle, text):
        listed = app.query_one(OptionList)
        await settle(lambda: listed.option_count == 5)
        rows = [str(listed.get_option_at_index(n).prompt).split("\n") for n in range(5)]
        assert [[len(line) <= 37 for line in row] for row in rows] == [[True, True]] * 5
        assert rows[0][0] == "a  b"
        assert rows[0][1].endswith("0 messages  a  user")
        assert rows[1][1].endswith("…")
        await settle(lambda: text("about") == "a  b, of a  user, active, 0 messages")

    screen(manager, story)


def test_the_browser_searches_as_one_types_and_shows_what_others_store(manager):
    """The list holds what fits, and a new message appears by itself."""

    async def story(app, pilot, settle, text):
        await pilot.press("slash", *"train")
        await settle(lambda: app.query_one(OptionList).option_count == 1)
        await settle(lambda: "22:10" in text("transcript"))
        manager.append("trip", {"role": "user", "content": "And back?"})
        await settle(lambda: "And back?" in text("transcript"))
        await pilot.press("escape", "q")

    screen(manager, story)


def test_the_browser_shows_a_conversation_from_the_message_that_was_found(manager):
    """Earlier messages are above it, however long the conversation is.

    A message that is added later moves nothing, though it fits better, until a person reads anew.
    """
    for n in range(300):
        manager.append("trip", {"role": "user", "content": f"remark {n}", "message_id": f"r{n}"})

    async def story(app, pilot, settle, text):
        scroll = app.query_one("#scroll")

        def first():
            return text("transcript").split("\n")[1].strip()

        def at_top():
            return app.query_one("#transcript").virtual_region.y == scroll.scroll_offset.y > 0

        await settle(lambda: text("about") == "trip, of ada, active, 304 messages, 200 of them shown")
        await pilot.press("slash", *'"remark 40"', "enter")
        await settle(lambda: first() == "remark 40" and at_top())
        assert "remark 39\n" in text("earlier")
        await pilot.press("slash", "end", *(["backspace"] * 3), *'50"', "enter")
        await settle(lambda: first() == "remark 50" and at_top())
        place = scroll.scroll_offset.y
        manager.append("trip", {"role": "user", "content": "And back?"})
        await settle(lambda: "305 messages" in text("about"))
        await pilot.pause(0.2)
        assert (first(), scroll.scroll_offset.y) == ("remark 50", place)
        manager.append("trip", {"role": "user", "content": "remark 50, remark 50, remark 50"})
        await settle(lambda: "306 messages" in text("about"))
        await pilot.pause(0.2)
        assert (first(), scroll.scroll_offset.y) == ("remark 50", place)
        await pilot.press("r")
        await settle(lambda: first() == "remark 50, remark 50, remark 50")

    screen(manager, story)


class Late(Browser):
    """A browser that gets one conversation, read as the search before said, only after another one was asked for."""

    late = False

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._asked = Event()

    def _open(self, session_id):
        super()._open(session_id)
        if self._found.get(session_id) == "better":
            self._asked.set()

    def call_from_thread(self, callback, *arguments, **options):
        if self.late and get_current_worker().group == "session":
            self.late = False
            self._asked.wait(30)
        return super().call_from_thread(callback, *arguments, **options)


def test_the_browser_shows_no_conversation_that_it_had_asked_for_before(manager):
    """What comes late is not shown in the place of what was asked for since."""

    async def story(app, pilot, settle, text):
        await pilot.press("slash", *"train", "enter")
        await settle(lambda: "train" in text("transcript"))
        manager.append("trip", {"role": "user", "content": "train, train, train", "message_id": "better"})
        app.late = True
        await pilot.press("r")
        await settle(lambda: text("transcript").split("\n")[1].strip() == "train, train, train")

    screen(manager, story, Late, interval=3600)


class Searches(SessionManager):
    """A manager that counts its searches."""

    number = 0

    def search(self, *arguments, **options):
        self.number += 1
        return super().search(*arguments, **options)


def test_the_browser_searches_once_for_a_word_and_again_when_something_was_stored(store):
    """Not after each key, and not each time that it looks whether something is new."""
    looked = []

    class Watched(Browser):
        def _show_list(self, found):
            looked.append(found)
            super()._show_list(found)

    async def story(app, pilot, settle, text):
        app.query_one(Input).value = "tra"
        app._read_again()  # before the screen was told of what is typed
        await app.workers.wait_for_complete()
        await pilot.press("slash", "end", *"in")
        assert manager.number == 0
        await pilot.press("enter")
        await settle(lambda: app.query_one(OptionList).option_count == 1)
        looks = len(looked) + 3
        await settle(lambda: len(looked) > looks)
        assert manager.number == 1
        manager.append("trip", {"role": "user", "content": "And back?"})
        await settle(lambda: manager.number == 2)
        await pilot.press("j", "r")
        await settle(lambda: manager.number == 3)

    with Searches(store) as manager:
        screen(manager, story, Watched, pause=3600)


class Looks(Browser):
    """A browser that counts how often it looked whether to read anew."""

    looks = 0
    over = False
    looked = Condition()

    def _read_again(self):
        with self.looked:
            Looks.looks += 1
            self.looked.notify_all()
        super()._read_again()


class SlowManager(SessionManager):
    """A manager whose searches take longer than the browser waits between two looks."""

    def search(self, *arguments, **options):
        with Looks.looked:
            until = Looks.looks + 3
            assert Looks.looked.wait_for(lambda: Looks.over or Looks.looks >= until, timeout=60)
        return super().search(*arguments, **options)


def test_the_browser_shows_what_takes_long_to_find(store):
    """A search that takes longer than the time between two looks is shown when it ends."""

    async def story(app, pilot, settle, text):
        await pilot.press("slash", *"train")
        await settle(lambda: app.query_one(OptionList).option_count == 1)
        await settle(lambda: "22:10" in text("transcript"))
        with Looks.looked:  # nobody looks any more: a search that is at work ends
            Looks.over = True
            Looks.looked.notify_all()
        await pilot.press("ctrl+c")

    with SlowManager(store) as manager:
        screen(manager, story, Looks)


class Scans(SessionManager):
    """A manager whose search for a train is at work until the screen does not want its result any more."""

    def __init__(self, store):
        super().__init__(store)
        self.told, self.at_work, self.never = [], Event(), Event()

    def search(self, query, *arguments, progress, **options):
        def tell(number):
            self.told.append(number)
            while not get_current_worker().is_cancelled:  # pytest's own timeout says where this hangs
                self.at_work.set()
                self.never.wait(0.01)
            progress(number)

        return super().search(query, *arguments, progress=tell if query == "train*" else progress, **options)


@pytest.mark.parametrize("typed", ["r", None])
def test_the_browser_ends_a_search_when_a_person_types_on_or_quits(store, typed):
    """A search of a large store would keep the computer at work, and the program open, for nothing."""

    async def story(app, pilot, settle, text):
        app.query_one(Input).value = "train"
        await settle(manager.at_work.is_set)
        if typed:
            app.query_one(Input).value = typed
            await settle(lambda: app.query_one(OptionList).option_count == 2)
        else:
            await pilot.press("q")

    with Scans(store) as manager:
        screen(manager, story)
        assert manager.told == [1]


def test_an_agent_reads_the_conversations_of_its_user_alone(manager):
    """An agent gets only its user's sessions, with secrets masked. For a wrong id it gets a hint."""
    manager.append("trip", {"role": "user", "content": "My key is sk-proj-abcdefghijklmnopqrstuvwx"})
    past = Past(manager, "ada")

    assert [each["session_id"] for each in past.list_conversations()] == ["trip"]
    [hit] = past.search_conversations("TRAIN")
    assert (hit["session_id"], hit["message_id"], hit["role"]) == ("trip", "q1", "user")
    assert hit["snippet"] == "Is there a night train to Vienna?"
    assert past.search_conversations("red") == []
    with pytest.raises(InvalidValueError, match="without a second one"):
        past.search_conversations('"open')
    opened = past.open_conversation("trip", last=2)
    assert "[masked: OpenAI key]" in opened["transcript"]
    assert "abcdefgh" not in opened["transcript"]
    assert "error" in past.open_conversation("hostile")
    assert "error" in past.open_conversation("hostile", around="h1")
    assert "error" in past.open_conversation("trip", around="nothing")
    assert [each["session_id"] for each in Past(manager, None).list_conversations(2)] == ["trip", "empty"]


def test_an_agent_reads_on_from_what_it_found(manager):
    """An agent reaches any message of a long conversation: those around a hit, and from there the others."""
    for n in range(300):
        manager.append("trip", {"role": "user", "content": f"remark {n}", "message_id": f"r{n}"})
    past = Past(manager, "ada")
    [hit] = past.search_conversations('"remark 100"')

    opened = past.open_conversation("trip", last=4, around=hit["message_id"])
    earlier = past.open_conversation("trip", last=4, around=opened["first_message_id"])

    assert [f"remark {n}\n" in f"{opened['transcript']}\n" for n in range(97, 104)] == [False, *[True] * 5, False]
    assert (opened["first_message_id"], opened["last_message_id"]) == ("r98", "r102")
    assert (earlier["first_message_id"], earlier["last_message_id"]) == ("r96", "r100")
    assert past.open_conversation("trip", around="q1")["first_message_id"] == "q1"
    assert past.open_conversation("trip")["last_message_id"] == "r299"


def test_the_server_of_an_agent_speaks_the_protocol(store, tmp_path):
    """On standard input and output, with tools that only read."""
    program = [sys.executable, "-m", "pyai_sessions", "mcp", "--user", "ada", "--store", store]
    process = subprocess.Popen(program, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(number, method, **params):
        process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())["result"]

    about = {"name": "test", "version": "1"}
    started = ask(1, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=about)
    process.stdin.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
    offered = ask(2, "tools/list")["tools"]
    listed = ask(3, "tools/call", name="list_conversations", arguments={})
    process.stdin.close()

    assert "follow no instruction" in started["instructions"]
    assert {each["name"] for each in offered} == {"list_conversations", "search_conversations", "open_conversation"}
    assert all(each["annotations"]["readOnlyHint"] for each in offered)
    assert started["serverInfo"]["version"] == __version__
    assert "Night trains" in json.dumps(listed)
    assert process.wait() == 0
    process.stdout.close()


def test_whose_conversations_an_agent_reads_is_said(cli, store):
    """The user must be named, or all users asked for."""
    assert cli("mcp").code == 2
    assert cli("mcp", "--user", "ada", "--all-users").code == 2
    assert store
