"""Each example runs as a reader would run it: a process of its own, offline."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pyai_sessions import SessionManager, SQLiteSessionStore

EXAMPLES = Path(__file__).parents[1] / "examples"
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "REDIS_"))}


def command(script, *args):
    return [sys.executable, str(script), *map(str, args)]


def start(script, *args, cwd, text="", env=None):
    """Run a script to its end, and return the finished process."""
    return subprocess.run(
        command(script, *args),
        cwd=cwd,
        input=text,
        env=CLEAN | (env or {}),
        capture_output=True,
        encoding="utf-8",
        check=False,  # and no deadline: a machine may be busy, and pytest's own timeout says where a test hangs
    )


def run(script, *args, **options):
    """Run a script, and return its output. It must succeed without a warning."""
    done = start(script, *args, **options)

    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def stored_messages(db, user_id="ada"):
    """Return (role, content) of all messages of the user's only session."""
    store = SQLiteSessionStore(db)
    try:
        [session] = SessionManager(store=store).get_sessions_for_user(user_id)
    finally:
        store.close()
    return [(each.role, each.content) for each in session.messages]


class StreamingModel(BaseHTTPRequestHandler):
    """Answers each request with a stream of "That is number <n>.", n being the number of messages received."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers["Authorization"], body))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        deltas = [{"role": "assistant", "content": ""}, {"content": "That is"}, {"content": " number\n"}]
        deltas += [{"content": f"{len(body['messages'])}."}, {}]
        for delta in deltas:
            self.event(json.dumps({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}))
        self.event('{"choices":[],"usage":{"total_tokens":9}}')
        if self.server.complete:
            self.event("[DONE]")
        self.close_connection = True

    def event(self, data):
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *args):
        """Keep standard error clean."""


@pytest.fixture
def model():
    """A model's server on 127.0.0.1. `requests` records the requests, and `env` has its URL and key."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), StreamingModel)
    server.requests = []
    server.complete = True
    server.env = {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1",
        "OPENAI_API_KEY": "key-for-the-test",
        "OPENAI_MODEL": "test-model",
        "NO_PROXY": "127.0.0.1",
    }
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


LONGEST = {"chat.py": 75, "demo.py": 80, "fastapi_chat.py": 130, "from_sql.py": 75, "time_travel.py": 65} | {
    "lmdb_storage.py": 250,
    "postgres_storage.py": 300,
}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path):
    """An example fits on a screen, a server on a large one, a store on a few."""
    assert len(path.read_text("utf-8").splitlines()) < LONGEST.get(path.name, 60)


def test_quickstart_runs_alone_in_an_empty_folder(tmp_path):
    """The quick start needs no other file, and finds sessions of earlier runs."""
    shutil.copy(EXAMPLES / "quickstart.py", tmp_path)

    first = run("quickstart.py", cwd=tmp_path)
    second = run("quickstart.py", cwd=tmp_path)

    assert first.count("user: Hello!") == 1
    assert second.count("user: Hello!") == 2
    assert second.endswith(first), "the latest session comes first"


def test_swap_backends_runs_on_all_four_mappings(tmp_path, any_server):
    """The same code prints the same on each mapping, and leaves nothing on the server."""
    lines = run(EXAMPLES / "swap_backends.py", any_server.url, cwd=tmp_path).splitlines()

    assert [line.split()[0] for line in lines] == ["dict", "SqliteDict", "Index", "RedisMapping"]
    assert len({line[13:] for line in lines}) == 1
    with any_server.client() as client:
        assert list(client.scan_iter("example:*")) == []


def test_swap_backends_takes_the_url_from_the_environment(tmp_path, valkey_server):
    """REDIS_URL has the same effect as an argument."""
    output = run(EXAMPLES / "swap_backends.py", cwd=tmp_path, env={"REDIS_URL": valkey_server.url})

    assert "\nRedisMapping 'Tea'" in output


def test_swap_backends_says_that_redis_is_left_out(tmp_path):
    """Without a URL the other three run, and the last line says what is missing."""
    *lines, last = run(EXAMPLES / "swap_backends.py", cwd=tmp_path).splitlines()

    assert len(lines) == 3
    assert last.startswith("RedisMapping left out: give a url")


def test_a_second_process_goes_on_with_the_conversation_of_the_first(tmp_path):
    """chat.py prints the conversation so far, then adds to it."""
    (tmp_path / "lines.txt").write_text("My name is Ada.\n\nI like trains.\n", "utf-8")
    first = run(EXAMPLES / "chat.py", "lines.txt", cwd=tmp_path)

    second = run(EXAMPLES / "chat.py", cwd=tmp_path, text="I feel better now.")

    resumed, _, said = second.partition("\n")
    assert re.fullmatch(r"Resumed: 4 messages, the last at [0-9-]{10} [0-9:]{8} UTC", resumed)
    assert said.startswith(first + "user: I feel better now.\nassistant: ")
    messages = stored_messages(tmp_path / "chat.db")
    assert said == "".join(f"{role}: {content}\n" for role, content in messages)
    assert [content for role, content in messages if role == "user"] == [
        "My name is Ada.",
        "I like trains.",
        "I feel better now.",
    ]


def test_each_user_has_a_conversation_of_their_own(tmp_path):
    """`--user` chooses the conversation, and `--db` the file."""
    for user in ("ada", "grace"):
        output = run(EXAMPLES / "chat.py", "--db", "talks.db", "--user", user, cwd=tmp_path, text=f"I am {user}.")

        assert output.startswith(f"user: I am {user}.\nassistant: ")
    for user in ("ada", "grace"):
        said, _answer = stored_messages(tmp_path / "talks.db", user)
        assert said == ("user", f"I am {user}.")


def test_a_model_is_sent_the_history_and_its_stream_is_stored(tmp_path, model):
    """With a model in the environment, each request has the conversation so far, also of earlier processes."""
    run(EXAMPLES / "chat.py", cwd=tmp_path, text="One\nTwo", env=model.env)

    output = run(EXAMPLES / "chat.py", cwd=tmp_path, text="Three", env=model.env)

    assert output.endswith("user: Three\nassistant: That is number\n5.\n")
    assert {(path, key) for path, key, _ in model.requests} == {("/v1/chat/completions", "Bearer key-for-the-test")}
    assert model.requests[-1][2] == {
        "model": "test-model",
        "stream": True,
        "messages": [
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "That is number\n1."},
            {"role": "user", "content": "Two"},
            {"role": "assistant", "content": "That is number\n3."},
            {"role": "user", "content": "Three"},
        ],
    }
    assert stored_messages(tmp_path / "chat.db")[-1] == ("assistant", "That is number\n5.")


def test_an_answer_that_breaks_off_is_not_stored_and_its_question_is(tmp_path, model):
    """If a stream breaks off, only the question is stored, and the next start answers it."""
    run(EXAMPLES / "chat.py", cwd=tmp_path, text="One", env=model.env)
    model.complete = False

    done = start(EXAMPLES / "chat.py", cwd=tmp_path, text="Two", env=model.env)

    assert done.returncode == 1
    assert "the answer broke off before its end" in done.stderr
    first = [("user", "One"), ("assistant", "That is number\n1.")]
    assert stored_messages(tmp_path / "chat.db") == [*first, ("user", "Two")]
    model.complete = True
    run(EXAMPLES / "chat.py", cwd=tmp_path, env=model.env)
    assert stored_messages(tmp_path / "chat.db") == [*first, ("user", "Two"), ("assistant", "That is number\n3.")]


@pytest.mark.parametrize(
    ("name", "install"),
    [
        ("chat.py", "pip install nltk"),
        ("demo.py", "pip install nltk"),
        ("fastapi_chat.py", "pip install fastapi uvicorn nltk"),
        ("postgres_storage.py", 'pip install "psycopg[binary]"'),
        ("time_travel.py", "pip install chatterbot-corpus PyYAML"),
    ],
)
def test_an_example_says_which_packages_it_needs(name, install, plain_python, tmp_path):
    """The last line of the output names a missing package and how to install it."""
    command = [plain_python, EXAMPLES / name]
    done = subprocess.run(command, cwd=tmp_path, input="Hello!", capture_output=True, encoding="utf-8", check=False)

    assert done.returncode == 1
    assert install in done.stderr
    assert done.stderr.count("Traceback") == (name == "postgres_storage.py")


def test_a_terminal_gets_a_prompt_and_ctrl_d_ends_the_chat(tmp_path):
    """On a terminal chat.py shows a prompt, and Ctrl-D ends it cleanly."""
    controller, terminal = pty.openpty()
    try:
        with subprocess.Popen(
            command(EXAMPLES / "chat.py"), cwd=tmp_path, env=CLEAN, stdin=terminal, stdout=terminal, stderr=terminal
        ) as process:
            try:
                greeted = read_until(controller, b"user: ")
                os.write(controller, b"Hello!\n")
                answered = read_until(controller, b"\nuser: ")
                os.write(controller, b"\x04")
                code = process.wait(240)
            finally:
                process.kill()
    finally:
        os.close(terminal)
        os.close(controller)

    assert (greeted, code) == (b"user: ", 0)
    assert answered.startswith(b"Hello!\r\nassistant: ")
    assert [role for role, _ in stored_messages(tmp_path / "chat.db")] == ["user", "assistant"]


def read_until(controller, text):
    """Return what the terminal shows until *text*."""
    shown = b""
    end = time.monotonic() + 240
    while text not in shown:
        ready, _, _ = select.select([controller], [], [], end - time.monotonic())
        assert ready, shown
        shown += os.read(controller, 1024)
    return shown


def test_the_demo_loses_nothing_and_says_what_to_try_next(tmp_path):
    """`make demo` kills a process within an answer, goes on in another, and fits on a screen."""
    output = run(EXAMPLES / "demo.py", cwd=tmp_path)

    assert output.count("user: Hello, is anybody there?") == 1
    assert "\nThe process was killed (kill -9). Stored: 5 messages, the last without an answer.\n" in output
    assert "'demo-1' has 10 messages, whole and in order. Try next:" in output
    assert len(output.splitlines()) <= 24
    assert [each.name for each in tmp_path.iterdir()] == ["demo.db"]


@pytest.mark.wide
def test_what_the_demo_says_to_try_next_works(tmp_path):
    """Each command that the demo suggests works in a shell. A second run leaves the first one's chat."""
    output = run(EXAMPLES / "demo.py", cwd=tmp_path)
    again = run(EXAMPLES / "demo.py", cwd=tmp_path)

    commands = [line.partition(" #")[0].strip() for line in output.splitlines()[-3:]]
    assert [each.replace("demo-1", "demo-2") for each in commands] == [
        line.partition(" #")[0].strip() for line in again.splitlines()[-3:]
    ]
    for each in commands:
        done = subprocess.run(
            ["sh", "-c", each],
            cwd=tmp_path,
            input="I will go.\n",
            env=CLEAN,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), each
    with SessionManager(SQLiteSessionStore(tmp_path / "demo.db"), close_store=True) as manager:
        assert {each.session_id: each.message_count for each in manager.list_sessions("ada")} == {
            "demo-1": 12,
            "demo-2": 10,
        }


def test_the_demo_fails_where_a_message_is_lost(tmp_path):
    """With a chat.py that does not store a question, the demo exits with an error."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    chat = tmp_path / "examples" / "chat.py"
    text = chat.read_text("utf-8")
    start_of_line = text.index("    manager.save(session)  # now")
    chat.write_text(text[:start_of_line] + text[text.index("\n", start_of_line) + 1 :], "utf-8")

    done = start(tmp_path / "examples" / "demo.py", cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("demo failed: the question is stored")


def test_a_mapping_of_ones_own_keeps_a_conversation(tmp_path):
    """Each run continues the last one's conversation."""
    first = run(EXAMPLES / "own_mapping.py", cwd=tmp_path)
    second = run(EXAMPLES / "own_mapping.py", cwd=tmp_path)

    assert first == "1 messages in ['session/chat']\n"
    assert second == "2 messages in ['session/chat']\n"


def test_a_storage_of_ones_own_keeps_a_conversation(tmp_path):
    """Each run continues the last one's conversation."""
    first = run(EXAMPLES / "lmdb_storage.py", cwd=tmp_path)
    second = run(EXAMPLES / "lmdb_storage.py", cwd=tmp_path)

    assert first == "Run 1\n"
    assert second == "Run 1\nRun 2\n"


def test_postgres_storage_takes_a_url_as_an_argument_or_from_the_environment(tmp_path, postgres_url):
    """Each run continues the conversation. Without a URL it says what is missing."""
    first = run(EXAMPLES / "postgres_storage.py", postgres_url, cwd=tmp_path)
    second = run(EXAMPLES / "postgres_storage.py", cwd=tmp_path, env={"DATABASE_URL": postgres_url})
    done = start(EXAMPLES / "postgres_storage.py", cwd=tmp_path, env={"DATABASE_URL": ""})

    assert (first, second) == ("Run 1\n", "Run 1\nRun 2\n")
    assert done.returncode == 1
    assert done.stderr.startswith("give a url, ")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("own_mapping.py", marks=pytest.mark.long),
        pytest.param("lmdb_storage.py", marks=pytest.mark.wide),
    ],
)
def test_what_is_of_ones_own_passes_the_contracts(tmp_path, name, long_form):
    """Both files of an example in a folder pass under plain pytest."""
    pass_the_contracts(tmp_path, name, whole=long_form)


def test_postgres_storage_passes_the_contracts(tmp_path, postgres_url, long_form):
    """The PostgreSQL example passes on an empty database under plain pytest."""
    pass_the_contracts(tmp_path, "postgres_storage.py", whole=long_form, env={"DATABASE_URL": postgres_url})


def pass_the_contracts(tmp_path, name, *, whole, env=None):
    """Run an example's tests; unless *whole*, only some rules of sessions."""
    for each in (name, f"test_{name}"):
        shutil.copy(EXAMPLES / each, tmp_path)

    options = ["-q", "-c", os.devnull, "--rootdir", tmp_path, "-p", "no:cacheprovider"]
    some = [] if whole else ["-k", "not Sessions or merge or conflict or delete or kill or append"]
    done = start("-m", "pytest", *options, *some, f"test_{name}", cwd=tmp_path, env=env)

    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d{3} passed", done.stdout, re.MULTILINE)
    assert "warnings summary" not in done.stdout


def test_time_travel_goes_back_and_loses_nothing(tmp_path):
    """The example rewinds, branches, forks and sums up, and all messages stay stored."""
    lines = run(EXAMPLES / "time_travel.py", cwd=tmp_path).splitlines()

    assert re.fullmatch(r"in 1000 tokens: \d\d of 2103 messages, from .* on", lines[0])
    assert lines[1:4] == [
        "second try: Check the cable. - left: [" + lines[1].partition("[")[2],
        "the copy: 2104 messages; the original: 2103",
        "first try: Reinstall everything.",
    ]
    assert lines[4:] == [
        "after the summary: ['system', 'system', 'user', 'assistant']",
        "stored: 2103 messages",
    ]
