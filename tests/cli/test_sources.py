"""What the readers of other exports keep of them: branches, calls of tools, files; and what they say is lost."""

import io
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import Session, SessionManager
from pyai_sessions.cli.sources import chatgpt
from pyai_sessions.cli.sources.reading import Tree


@pytest.fixture(autouse=True)
def _store(monkeypatch):
    monkeypatch.setenv("PYAI_SESSIONS_STORE", "sqlite:///imported.db")


def load(session_id):
    with SessionManager("sqlite:///imported.db") as manager:
        session = manager.get_session(session_id)
        return session, [[each.message_id for each in manager.get_branch(session_id, one)] for one in session.branches]


def ids_of(session):
    return [each.message_id for each in session.messages]


def write_lines(path, values):
    Path(path).write_text("".join(json.dumps(each) + "\n" for each in values), "utf-8")


# Branches ---------------------------------------------------------------------------------------------------------


def node(name, parent, role="user", text=None, **fields):
    """Return a node of ChatGPT's tree; a text that is an object is the message's content."""
    number = float(sum(map(ord, name)))
    content = text if isinstance(text, dict) else {"content_type": "text", "parts": [text or f"says {name}"]}
    message = {"id": name, "author": {"role": role}, "create_time": number, "content": content, "metadata": {}}
    return {"id": name, "parent": parent, "children": [], "message": message | fields}


def conversation(*nodes, **fields):
    return {"conversation_id": "c", "mapping": {each["id"]: each for each in nodes}} | fields


def test_questions_that_were_edited_and_answers_that_were_made_anew_are_branches(cli):
    """The messages that ChatGPT showed last are the conversation; the others are kept as branches of the session."""
    root = {"id": "root", "message": None, "parent": None, "children": []}
    nodes = [
        node("q", "root"),
        node("a1", "q", "assistant"),
        node("a2", "q", "assistant"),
        node("e1", "a1"),
        node("e2", "a1"),
    ]
    Path("c.json").write_text(json.dumps([conversation(root, *nodes, current_node="e1")]), "utf-8")

    assert cli("import", "c.json").code == 0

    session, branches = load("chatgpt-c")
    assert ids_of(session) == ["q", "a1", "e1"]
    assert sorted(branches) == [["q", "a1", "e2"], ["q", "a2"]]
    assert cli("import", "c.json", "--json").json["same"] == 1


def test_the_branches_of_claudes_export_are_kept(cli):
    """A message of Claude's export follows its parent; the newest branch is the conversation."""

    def message(name, parent, minute):
        times = {"created_at": f"2026-01-05T09:{minute:02}:00Z"}
        return {"uuid": name, "sender": "human", "text": name, "content": [], "parent_message_uuid": parent} | times

    messages = [message("q", "0", 0), message("a1", "q", 1), message("a2", "q", 2), message("b", "a2", 3)]
    Path("c.json").write_text(json.dumps([{"uuid": "u", "name": "", "chat_messages": messages}]), "utf-8")

    assert cli("import", "c.json").code == 0

    session, branches = load("claude-u")
    assert (ids_of(session), branches) == (["q", "a2", "b"], [["q", "a1"]])


@given(st.lists(st.integers(0, 20), min_size=1, max_size=20), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_every_way_through_a_tree_is_the_conversation_or_a_branch(parents, last):
    """From the first message to each last one: no way is lost, and none is there twice."""
    tree = Tree()
    before = {n: min(parent, n - 1) if n else None for n, parent in enumerate(parents)}
    for n, parent in before.items():
        tree.add(
            str(n), None if parent is None else str(parent), {"role": "user", "content": "x", "message_id": f"m{n}"}
        )
    way = {}
    for n, parent in before.items():
        way[n] = [*(way[parent] if parent is not None else []), f"m{n}"]
    ends = [way[n] for n in before if n not in before.values()]

    messages, left = tree.branches(str(last))

    session = Session.from_dict({"session_id": "s", "messages": messages, "left": left})
    manager = SessionManager()
    manager.import_sessions([session])
    shown = ids_of(session)
    found = [[each.message_id for each in manager.get_branch("s", one)] for one in manager.get_session("s").branches]
    assert shown == way.get(last) or (last not in way and shown in ends)
    assert sorted(map(tuple, found)) == sorted(tuple(each) for each in ends if each != shown[: len(each)])


# Calls of tools, files and all else -------------------------------------------------------------------------------


def test_chatgpt_calls_of_tools_files_and_instructions_are_messages(cli):
    """What goes to a tool alone is a call, what the tool says its result; files and a user's instructions are kept."""
    told = {"content_type": "user_editable_context", "user_profile": "I am Ada.", "user_instructions": "Be brief."}
    code = {"content_type": "code", "language": "python", "text": "print(1)"}
    files = {
        "attachments": [{"id": "f1", "name": "plan.txt", "mime_type": "text/plain"}, {"id": "f2", "name": "x.png"}]
    }
    asked = {
        "content_type": "multimodal_text",
        "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "f2"}],
    }
    nodes = [
        node("i", None, "user", told, metadata={"is_visually_hidden_from_conversation": True}),
        node("s", "i", "system", {"content_type": "text", "parts": [""]}),
        node("q", "s", "user", asked, metadata=files),
        node("c", "q", "assistant", code, recipient="python"),
        node("r", "c", "tool", {"content_type": "execution_output", "text": "1"}),
        node("t", "r", "tool", {"content_type": "text", "parts": ["plot.png"]}),
        node("a", "t", "assistant", recipient="all"),
    ]
    Path("c.json").write_text(json.dumps([conversation(*nodes, current_node="a", is_archived=True)]), "utf-8")

    assert cli("import", "c.json").code == 0

    session, _ = load("chatgpt-c")
    assert [each.role for each in session.messages] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert [each.tool_call_id for each in session.messages[3:5]] == ["c", "c"]
    assert session.messages[0].content == "I am Ada.\n\nBe brief."
    assert [each["type"] for each in session.messages[1].content] == ["image_asset_pointer", "file"]
    assert session.messages[1].content[1]["file_name"] == "plan.txt"
    assert session.status == "archived"
    given = session.history(format="openai")
    assert given[2]["tool_calls"][0]["function"] == {"name": "python", "arguments": "print(1)"}
    assert (given[3]["tool_call_id"], given[3]["content"]) == ("c", "1")


def test_claude_calls_without_ids_have_some(cli):
    """Older exports give no ids to calls and results, which stand one after the other; a model is given both."""
    parts = [{"type": "tool_use", "name": "look", "input": {}, "id": None}, {"type": "tool_result", "content": "22:10"}]
    messages = [
        {"uuid": "q", "sender": "human", "text": "When?", "content": []},
        {
            "uuid": "a",
            "sender": "assistant",
            "text": "",
            "content": [*parts, *parts, {"type": "text", "text": "Late."}],
        },
    ]
    Path("c.json").write_text(json.dumps([{"uuid": "u", "chat_messages": messages}]), "utf-8")

    assert cli("import", "c.json").code == 0

    found = json.dumps(load("claude-u")[0].history(format="anthropic"))
    assert found.count('"tool_use_id": "a-1"') == found.count('"tool_use_id": "a-2"') == 1


def test_claude_code_counts_the_tokens_of_an_answer_once_and_has_its_own_summary(cli):
    """An answer has a line for each part, each with the usage so far; a file may have summaries of other sessions."""

    def line(name, kind, content, **fields):
        message = {"role": kind, "content": content} | fields
        return {"type": kind, "uuid": name, "sessionId": "s", "isSidechain": False, "message": message}

    write_lines("s.jsonl", [
        {"type": "summary", "summary": "Of this one", "leafUuid": "l3"},
        {"type": "summary", "summary": "Of another", "leafUuid": "elsewhere"},
        line("l1", "user", "Hi"),
        line("l2", "assistant", [{"type": "text", "text": "a"}], id="msg", usage={"output_tokens": 1}),
        line("l3", "assistant", [{"type": "text", "text": "b"}], id="msg", usage={"output_tokens": 7}),
        line("l4", "user", "of an agent") | {"isSidechain": True},
    ])  # fmt: skip
    write_lines("agent-1.jsonl", [line("l5", "user", "of an agent") | {"isSidechain": True}])

    ran = cli("import", "s.jsonl", "agent-1.jsonl", "--json")

    assert (ran.code, ran.json["new"], ran.json["omitted"]) == (0, 1, {"messages of agents within": 2})
    assert "2 messages of agents within" in cli("import", "s.jsonl", "agent-1.jsonl").err
    assert load("claude-code-s")[0].title == "Of this one"
    assert [each["output"] for each in cli("stats", "--messages", "--json").json["tokens"]] == [7]


def test_claude_code_prompts_that_were_taken_back_are_branches(cli):
    """Another prompt after the same message begins anew there; results of tools that ran together belong together."""

    def line(name, parent, kind, content):
        about = {"sessionId": "s", "parentUuid": parent}
        return {"type": kind, "uuid": name, "message": {"role": kind, "content": content}} | about

    def result(number):
        return [{"type": "tool_result", "tool_use_id": f"t{number}", "content": "x"}]

    calls = [{"type": "tool_use", "id": f"t{n}", "name": "look", "input": {}} for n in (1, 2)]
    write_lines("s.jsonl", [
        line("q1", None, "user", "Look."),
        line("a1", "q1", "assistant", calls[:1]),
        line("a2", "a1", "assistant", calls[1:]),
        line("r1", "a1", "user", result(1)),
        line("r2", "a2", "user", result(2)),
        line("a3", "r2", "assistant", "Seen."),
        line("q2", "a3", "user", "Wrong way."),
        line("a4", "q2", "assistant", "Going."),
        line("q3", "a4", "user", "Further."),
        line("q4", "a4", "user", "Elsewhere."),
        line("q5", "a3", "user", "Right way."),
        line("a5", "q5", "assistant", "Done."),
    ])  # fmt: skip

    assert cli("import", "s.jsonl").code == 0

    session, branches = load("claude-code-s")
    begin = ["q1", "a1", "a2", "r1", "r2", "a3"]
    assert ids_of(session) == [*begin, "q5", "a5"]
    assert sorted(branches) == [[*begin, "q2", "a4", "q3"], [*begin, "q2", "a4", "q4"]]


def test_codex_is_called_by_what_a_person_typed(cli):
    """The first message of a transcript describes the surroundings. What has no place in a session is counted."""

    def item(kind, **payload):
        return {"timestamp": "2026-01-05T09:00:00Z", "type": kind, "payload": payload}

    used = {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}
    around = [{"type": "input_text", "text": "<environment_context>/work</environment_context>"}]
    write_lines("r.jsonl", [
        item("session_meta", id="x"),
        item("response_item", type="message", role="user", content=around),
        item("event_msg", type="user_message", message="Fix the\ntimetable."),
        item("response_item", type="custom_tool_call", name="apply_patch", input="*** Begin", call_id="c"),
        item("response_item", type="custom_tool_call_output", call_id="c", output="Done"),
        item("response_item", type="web_search_call", action={"query": "trains"}),
        item("response_item", type="message", role="assistant", content=[{"type": "output_text", "text": "Fixed."}]),
        *[item("event_msg", type="token_count", info={"last_token_usage": used})] * 2,
        item("event_msg", type="token_count", info=None),
        item("compacted", message="summary"),
    ])  # fmt: skip

    ran = cli("import", "r.jsonl", "--json")

    session, _ = load("codex-x")
    assert session.title == "Fix the timetable."
    assert session.history(format="openai")[1]["tool_calls"][0]["function"]["arguments"] == "*** Begin"
    assert session.messages[-1].metadata["usage"] == {"input_tokens": 9, "output_tokens": 3}
    assert ran.json["omitted"] == {"items of the type web_search_call": 1, "summaries of what came before": 1}


def test_the_system_prompt_and_the_tools_of_a_data_set_are_kept(cli):
    """They stand beside the messages of a conversation."""
    spoken = [{"from": "human", "value": "Hello!"}, {"from": "gpt", "value": "Hi!"}]
    write_lines("d.jsonl", [{"id": "g", "system": "Be kind.", "tools": "[]", "conversations": spoken}])

    assert cli("import", "d.jsonl").code == 0

    session, _ = load("sharegpt-g")
    assert [each.content for each in session.messages] == ["Be kind.", "Hello!", "Hi!"]
    assert session.metadata["tools"] == "[]"


def test_llm_calls_of_tools_files_and_fragments_are_kept(cli):
    """A result belongs to the response that it was given to. The contents of attachments are counted as lost."""
    with sqlite3.connect("logs.db") as connection:
        connection.executescript("""
            CREATE TABLE conversations (id TEXT, name TEXT, model TEXT);
            CREATE TABLE responses (id TEXT, model TEXT, prompt TEXT, system TEXT, response TEXT, conversation_id TEXT,
                datetime_utc TEXT, input_tokens INTEGER, output_tokens INTEGER, resolved_model TEXT);
            CREATE TABLE attachments (id TEXT, type TEXT, path TEXT, url TEXT, content BLOB);
            CREATE TABLE prompt_attachments (response_id TEXT, attachment_id TEXT, "order" INTEGER);
            CREATE TABLE fragments (id INTEGER, content TEXT);
            CREATE TABLE prompt_fragments (response_id TEXT, fragment_id INTEGER, "order" INTEGER);
            CREATE TABLE tool_calls (id INTEGER, response_id TEXT, name TEXT, arguments TEXT, tool_call_id TEXT);
            CREATE TABLE tool_results (id INTEGER, response_id TEXT, name TEXT, output TEXT, tool_call_id TEXT);
            INSERT INTO conversations VALUES ('l', 'Trains', 'm');
            INSERT INTO responses VALUES ('r1', 'm', 'When?', NULL, '', 'l', '2026-01-05T09:00:00', 1, 2, 'm-2026');
            INSERT INTO responses VALUES ('r2', 'm', '', NULL, 'At 22:10.', 'l', '2026-01-05T09:00:01', 1, 2, NULL);
            INSERT INTO attachments VALUES ('f', 'image/png', NULL, NULL, x'89');
            INSERT INTO prompt_attachments VALUES ('r1', 'f', 0);
            INSERT INTO fragments VALUES (1, 'The timetable.');
            INSERT INTO prompt_fragments VALUES ('r1', 1, 0);
            INSERT INTO tool_calls VALUES (1, 'r1', 'look', '{"to": "Vienna"}', 'c');
            INSERT INTO tool_results VALUES (1, 'r2', 'look', '22:10', 'c');
        """)
    connection.close()

    ran = cli("import", "logs.db", "--json")

    session, _ = load("llm-l")
    assert ran.json["omitted"] == {"contents of attachments": 1}
    assert [each.role for each in session.messages] == ["user", "assistant", "tool", "assistant"]
    assert session.messages[0].content[0]["text"] == "The timetable.\nWhen?"
    assert session.messages[0].content[1]["mime_type"] == "image/png"
    assert session.messages[1].metadata["model"] == "m-2026"
    assert [each.get("tool_call_id") for each in session.history(format="openai")] == [None, None, "c", None]


def test_a_tree_that_goes_round_ends():
    """A parent that is its own descendant ends no reader's work."""
    nodes = conversation(node("a", "b"), node("b", "a"))

    assert len(list(chatgpt.sessions(io.StringIO(json.dumps([nodes]))))) == 1
