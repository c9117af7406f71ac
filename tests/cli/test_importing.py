"""`import`: the exports of this program and of others, given once and again, whole and broken.

The files are made by hand after what the programs write.
"""

import gzip
import io
import json
import sqlite3
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import SessionManager
from pyai_sessions.cli.sources.reading import Broken, items

CHATGPT = [
    {
        "title": "Night trains",
        "create_time": 1767603600.5,
        "update_time": 1767603700.0,
        "conversation_id": "c-1",
        "default_model_slug": "gpt-x",
        "current_node": "n4",
        "mapping": {
            "root": {"id": "root", "message": None, "parent": None, "children": ["n1"]},
            "n1": {
                "id": "n1", "parent": "root", "children": ["n2", "old"],
                "message": {
                    "id": "m1", "author": {"role": "user", "name": None}, "create_time": 1767603600.5,
                    "content": {"content_type": "text", "parts": ["Is there a night train?"]}, "metadata": {},
                    "recipient": "all",
                },
            },
            "old": {
                "id": "old", "parent": "n1", "children": [],
                "message": {
                    "id": "mo", "author": {"role": "assistant"}, "create_time": 1767603650.0,
                    "content": {"content_type": "text", "parts": ["An answer that was regenerated."]}, "metadata": {},
                },
            },
            "n2": {
                "id": "n2", "parent": "n1", "children": ["n3"],
                "message": {
                    "id": "m2", "author": {"role": "assistant"}, "create_time": 1767603660.0, "recipient": "python",
                    "content": {"content_type": "code", "text": "find('Vienna')"}, "metadata": {"model_slug": "gpt-x"},
                },
            },
            "n3": {
                "id": "n3", "parent": "n2", "children": ["n4"],
                "message": {
                    "id": "m3", "author": {"role": "tool", "name": "python"}, "create_time": 1767603670.0,
                    "content": {"content_type": "execution_output", "text": "22:10"}, "metadata": {},
                },
            },
            "n4": {
                "id": "n4", "parent": "n3", "children": [],
                "message": {
                    "id": "m4", "author": {"role": "assistant"}, "create_time": 1767603690.0,
                    "content": {
                        "content_type": "multimodal_text",
                        "parts": ["At 22:10.", {"content_type": "image_asset_pointer", "asset_pointer": "file-service://f1"}],
                    },
                    "metadata": {"model_slug": "gpt-x"},
                },
            },
        },
    },
]  # fmt: skip

CLAUDE = [
    {
        "uuid": "u-1",
        "name": "Night trains",
        "created_at": "2026-01-05T09:00:00.000000Z",
        "updated_at": "2026-01-05T09:01:00.000000Z",
        "account": {"uuid": "a-1"},
        "chat_messages": [
            {
                "uuid": "m1", "text": "Is there a night train?", "sender": "human",
                "content": [{"type": "text", "text": "Is there a night train?"}],
                "created_at": "2026-01-05T09:00:00.000000Z", "updated_at": "2026-01-05T09:00:00.000000Z",
                "attachments": [{"file_name": "plan.txt", "file_size": 3, "extracted_content": "Vienna"}],
                "files": [{"file_name": "map.png"}],
            },
            {
                "uuid": "m2", "text": "At 22:10.", "sender": "assistant", "content": [],
                "created_at": "2026-01-05T09:01:00.000000Z", "attachments": [], "files": [],
            },
        ],
    }
]  # fmt: skip

CLAUDE_CODE = [
    {"type": "summary", "summary": "Fix the timetable", "leafUuid": "u3"},
    {"type": "user", "uuid": "u0", "sessionId": "s-1", "isMeta": True, "message": {"role": "user", "content": "meta"}},
    {
        "type": "user", "uuid": "u1", "parentUuid": None, "sessionId": "s-1", "timestamp": "2026-01-05T09:00:00.000Z",
        "cwd": "/work", "gitBranch": "main", "version": "2.0.1", "isSidechain": False,
        "message": {"role": "user", "content": "Fix the timetable."},
    },
    {
        "type": "assistant", "uuid": "u2", "parentUuid": "u1", "sessionId": "s-1",
        "timestamp": "2026-01-05T09:00:05.000Z",
        "message": {
            "id": "msg_1", "role": "assistant", "model": "claude-x", "usage": {"input_tokens": 9, "output_tokens": 4},
            "content": [
                {"type": "thinking", "thinking": "Where is it?", "signature": "x"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}},
            ],
        },
    },
    {
        "type": "user", "uuid": "u3", "parentUuid": "u2", "sessionId": "s-1", "timestamp": "2026-01-05T09:00:06.000Z",
        "message": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "plan.txt"}]},
    },
    {
        "type": "assistant", "uuid": "side", "isSidechain": True, "sessionId": "s-1",
        "message": {"role": "assistant", "content": "of another agent"},
    },
]  # fmt: skip

CODEX = [
    {
        "timestamp": "2026-01-05T09:00:00.000Z", "type": "session_meta",
        "payload": {"id": "x-1", "timestamp": "2026-01-05T09:00:00.000Z", "cwd": "/work", "cli_version": "0.50.0"},
    },
    {"timestamp": "2026-01-05T09:00:00.500Z", "type": "turn_context", "payload": {"cwd": "/work", "model": "gpt-x"}},
    {
        "timestamp": "2026-01-05T09:00:01.000Z", "type": "response_item",
        "payload": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]},
    },
    {"timestamp": "2026-01-05T09:00:02.000Z", "type": "event_msg", "payload": {"type": "token_count", "info": None}},
    {
        "timestamp": "2026-01-05T09:00:02.000Z", "type": "response_item",
        "payload": {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Looking."}], "x": "y"},
    },
    {
        "timestamp": "2026-01-05T09:00:03.000Z", "type": "response_item",
        "payload": {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "c1"},
    },
    {
        "timestamp": "2026-01-05T09:00:04.000Z", "type": "response_item",
        "payload": {"type": "function_call_output", "call_id": "c1", "output": "plan.txt"},
    },
    {
        "timestamp": "2026-01-05T09:00:05.000Z", "type": "response_item",
        "payload": {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]},
    },
]  # fmt: skip

SHAREGPT = [
    {"id": "g-1", "conversations": [{"from": "human", "value": "Hello!"}, {"from": "gpt", "value": "Hi there!"}]},
    {"messages": [{"role": "user", "content": "Bye!"}, {"role": "assistant", "content": "See you."}]},
]


def write_lines(path, values):
    Path(path).write_text("".join(json.dumps(each) + "\n" for each in values), "utf-8")


def write_llm(path):
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
        CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, prompt_json TEXT,
            options_json TEXT, response TEXT, response_json TEXT, conversation_id TEXT, duration_ms INTEGER,
            datetime_utc TEXT, input_tokens INTEGER, output_tokens INTEGER, token_details TEXT);
        INSERT INTO conversations VALUES ('l-1', 'Night trains', 'gpt-x');
        INSERT INTO responses (id, model, prompt, system, response, conversation_id, datetime_utc, input_tokens,
            output_tokens) VALUES
            ('r1', 'gpt-x', 'Is there a night train?', 'Be brief.', 'At 22:10.', 'l-1', '2026-01-05T09:00:00', 12, 4),
            ('r2', 'gpt-x', 'And back?', NULL, 'At 21:50.', 'l-1', '2026-01-05T09:01:00', 20, 5);
        """
    )
    connection.close()


def write_all(source):
    """Write the export of a program into the current folder; return its path."""
    if source == "llm":
        write_llm("logs.db")
        return "logs.db"
    if source in ("claude-code", "codex"):
        write_lines("transcript.jsonl", CLAUDE_CODE if source == "claude-code" else CODEX)
        return "transcript.jsonl"
    Path("data.json").write_text(
        json.dumps({"chatgpt": CHATGPT, "claude": CLAUDE, "sharegpt": SHAREGPT}[source], indent=1)
    )
    return "data.json"


EXPECTED = {
    "chatgpt": ("chatgpt-c-1", "Night trains", ["user", "assistant", "tool", "assistant"]),
    "claude": ("claude-u-1", "Night trains", ["user", "assistant"]),
    "claude-code": ("claude-code-s-1", "Fix the timetable", ["user", "assistant", "user"]),
    "codex": ("codex-x-1", None, ["user", "assistant", "assistant", "tool", "assistant"]),
    "sharegpt": ("sharegpt-g-1", None, ["user", "assistant"]),
    "llm": ("llm-l-1", "Night trains", ["system", "user", "assistant", "user", "assistant"]),
}


@pytest.fixture(autouse=True)
def _store(monkeypatch):
    monkeypatch.setenv("PYAI_SESSIONS_STORE", "sqlite:///imported.db")


def load(session_id):
    with SessionManager("sqlite:///imported.db") as manager:
        return manager.get_session(session_id)


@pytest.mark.parametrize("source", EXPECTED)
def test_an_export_of_another_program_is_imported_once(cli, source):
    """The program is recognized by the file's content. A second import adds nothing."""
    path, (session_id, title, roles) = write_all(source), EXPECTED[source]
    number = 2 if source == "sharegpt" else 1

    assert cli("import", path, "--dry-run", "--json").json["new"] == number
    assert not Path("imported.db").exists()
    first = cli("import", path, "--user", "ada", "--json")
    again = cli("import", path, "--user", "ada", "--json")

    assert (first.code, first.json["new"]) == (0, number)
    assert (again.code, again.json["new"], again.json["same"]) == (0, 0, number)
    assert cli("import", path, "--dry-run", "--json").json["there"] == number
    session = load(session_id)
    assert (session.user_id, session.title, session.metadata["source"]) == ("ada", title, source)
    assert [each.role for each in session.messages] == roles
    assert session.history(format="openai")
    assert cli("show", session_id).code == 0
    assert cli("export", session_id, "-f", "html").code == 0


def test_what_a_message_has_besides_its_words_is_kept(cli):
    """Times, models, tokens, thinking, tool calls and files are imported."""
    for source in ("chatgpt", "claude", "claude-code", "codex", "llm"):
        cli("import", write_all(source))

    image = load("chatgpt-c-1").messages[-1]
    assert image.content[1]["type"] == "image_asset_pointer"
    assert (image.metadata["model"], image.timestamp.year) == ("gpt-x", 2026)
    assert [each["type"] for each in load("claude-u-1").messages[0].content] == ["text", "file", "text", "file"]
    code = load("claude-code-s-1")
    assert code.metadata["cwd"] == "/work"
    assert code.messages[1].metadata["usage"]["output_tokens"] == 4
    assert code.history(format="openai")[1]["tool_calls"][0]["function"]["name"] == "Bash"
    assert load("codex-x-1").messages[2].tool_calls[0]["function"]["name"] == "shell"
    assert load("codex-x-1").messages[4].metadata["model"] == "gpt-x"
    assert load("llm-l-1").messages[2].metadata["usage"] == {"input_tokens": 12, "output_tokens": 4}
    assert cli("stats", "--messages", "--json").json["tokens"]


def test_a_newer_export_changes_what_has_grown_and_keeps_what_was_changed_here(cli):
    """A newer export adds new messages. A session that was changed in the store stays, and is reported."""
    cli("import", write_all("claude"))
    grown = json.loads(json.dumps(CLAUDE))
    last = {"uuid": "m3", "sender": "human", "text": "Thanks!", "created_at": "2026-01-06T09:00:00Z", "content": []}
    grown[0]["chat_messages"].append(last)
    grown[0]["updated_at"] = "2026-01-06T09:00:00Z"
    Path("newer.json").write_text(json.dumps(grown), "utf-8")

    assert cli("import", "newer.json", "--json").json["changed"] == 1
    assert load("claude-u-1").message_count == 3
    with SessionManager("sqlite:///imported.db") as manager:
        manager.append("claude-u-1", {"role": "user", "content": "I go on here."})
    ran = cli("import", write_all("claude"), "--json")
    assert (ran.code, ran.json["kept"], ran.json["different_ids"]) == (1, 1, ["claude-u-1"])
    assert load("claude-u-1").message_count == 4


@pytest.mark.parametrize("kind", ["sqlite", "diskcache", "redis"])
def test_a_session_keeps_its_user_when_an_import_names_none(cli, kind, valkey_server):
    """The same import without `--user` changes nothing. With another user, sessions become that user's."""
    redis = f"{valkey_server.url}?prefix=keeps-its-user:"
    store = ("--store", {"sqlite": "owned.db", "diskcache": "diskcache://owned", "redis": redis}[kind])
    path = write_all("chatgpt")
    cli("import", path, "--user", "ada", *store)

    assert cli("import", path, "--json", *store).json["same"] == 1
    assert cli("ls", "--json", *store).json["sessions"][0]["user_id"] == "ada"
    assert cli("import", path, "--user", "bob", "--json", *store).json["changed"] == 1
    assert cli("ls", "--json", *store).json["sessions"][0]["user_id"] == "bob"


def test_archives_folders_and_compressed_files_are_read(cli):
    """Archives, folders and compressed files can be imported."""
    with zipfile.ZipFile("export.zip", "w") as archive:
        archive.writestr("user.json", "{}")
        archive.writestr("conversations.json", json.dumps(CHATGPT))
    Path("projects/a/b").mkdir(parents=True)
    write_lines("projects/a/b/s-1.jsonl", CLAUDE_CODE)
    write_lines("projects/a/x-1.jsonl", CODEX)
    Path("data.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(each) + "\n" for each in SHAREGPT).encode()))

    assert cli("import", "export.zip", "projects", "data.jsonl.gz", "--json").json["new"] == 5


def test_our_own_export_comes_back_equal_through_any_other_storage(cli, store, valkey_server):
    """An export that is imported into another storage exports the same lines."""
    cli("export", "--store", store, "-o", "all.jsonl")
    whole = sorted(Path("all.jsonl").read_text("utf-8").splitlines())
    for target in ("other.db", "diskcache://other", f"{valkey_server.url}?prefix=imported:"):
        assert cli("import", "all.jsonl", "--store", target, "--json").json["new"] == 4
        assert cli("import", "all.jsonl", "--store", target, "--json").json["same"] == 4
        assert sorted(cli("export", "--store", target).out.splitlines()) == whole


BROKEN = {
    "own.jsonl": ('{"session_id": "a"}\nnot json\n{"session_id": "b"}\n{"session_id": 5}\n', 2, ["line 2", "line 4"]),
    "array.json": ('[{"mapping": {}, "id": "a"},\n{"mapping":5, "id":"b"},{"mapping": {}, "id": "c"}]', 2, ["line 2"]),
    "cut.json": ('[\n{"mapping": {}, "conversation_id": "a"},\n{"mapping": {"x', 1, ["line 3"]),
    "syntax.json": ('[\n{"mapping": {}, "conversation_id": "a"},\n{"mapping": }, {"y": 1}]' + " " * 99, 1, ["line 3"]),
    "claude.json": ('[{"chat_messages": [], "uuid": "a"}, {"chat_messages": [5], "uuid": "b"}]', 1, ["line 1"]),
    "share.jsonl": ('{"conversations": [{"from": "human", "value": "x"}]}\n{"conversations": []}\n', 1, ["line 2"]),
    "depth.jsonl": ('{"messages": [{"role": "user", "content": ' + "[" * 300 + "]" * 300 + "}]}\n", 0, ["line 1"]),
    "unknown.json": ('{"a": 1}', 0, ["--from"]),
    "empty.json": ("", 0, ["--from"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_input_is_named_by_its_line_and_the_rest_is_taken(cli, name):
    """An invalid line is reported by number, and the rest imported. With `--strict` the import stops there."""
    text, number, places = BROKEN[name]
    Path(name).write_text(text, "utf-8")

    ran = cli("import", name, "--json")

    assert (ran.code, ran.json["new"], ran.json["invalid"]) == (1, number, len(places))
    for place, problem in zip(places, ran.json["problems"], strict=True):
        assert name in problem
        assert place in problem
    assert cli("import", name, "--dry-run").code == 1
    strict = cli("import", name, "--strict", "--store", "strict.db")
    assert strict.code in (1, 2)
    assert places[0] in strict.err


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=9,
)


@given(JSON)
@settings(max_examples=50)
def test_no_json_breaks_a_reader(value):
    """For any JSON, a reader gives sessions or reports a problem."""
    from importlib import import_module

    for source in ("chatgpt", "claude", "claude_code", "codex", "sharegpt"):
        read = import_module(f"pyai_sessions.cli.sources.{source}").sessions
        for text in (json.dumps([value]), json.dumps({"mapping": value, "chat_messages": value, "payload": value})):
            assert all(isinstance(each, tuple) for each in read(io.StringIO(text)))


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text(max_size=50)), max_size=9), st.integers(0, 3))
@settings(max_examples=30)
def test_an_array_is_read_piece_by_piece(values, indent):
    """A reader of an array gives each element with its first line number."""
    found = list(items(io.StringIO(json.dumps(values, indent=indent or None))))

    assert [each.value for each in found] == values
    assert not any(isinstance(each, Broken) for each in found)


def test_an_array_of_any_length_takes_the_memory_of_an_element():
    """A long array is read in constant memory."""

    class Endless(io.TextIOBase):
        left = 400

        def read(self, size):
            Endless.left -= 1
            return "," + json.dumps({"text": "x" * size}) if Endless.left > 0 else ""

    tracemalloc.start()
    number = sum(1 for _ in items(Endless()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert number == 400 - 1
    assert peak < 2_000_000
