"""`ls`, `show`, `stats` and `peek`: what a person or a script sees of a store."""

import base64
import json
import os
import time
from pathlib import Path

import pytest

from pyai_sessions import Encrypted, KVSessionStore, SessionManager, SQLiteMapping
from pyai_sessions.cli.statistics import plot

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def _zone(monkeypatch):
    monkeypatch.setenv("TZ", "Etc/GMT-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_ls_lists_the_newest_conversation_first_in_the_readers_zone(cli):
    """A table has a line for each session, with the time as a clock on the wall shows it."""
    lines = cli("ls").out.splitlines()

    assert lines[0].split() == ["SESSION", "USER", "MESSAGES", "ACTIVE", "TITLE"]
    assert [each.split()[0] for each in lines[1:]] == ["empty", "hostile", "trip"]
    assert "2026-01-05 11:03  Night trains" in lines[3]


def test_a_table_fits_the_terminal_and_cuts_no_id(cli, monkeypatch):
    """At any width ids are shown whole, and titles are cut."""
    wide = cli("ls").out

    monkeypatch.setenv("COLUMNS", "70")
    lines = cli("ls").out.splitlines()

    assert max(map(len, lines)) <= 70
    assert [each.split()[0] for each in lines] == [each.split()[0] for each in wide.splitlines()]
    assert "…" in lines[2]
    monkeypatch.setenv("COLUMNS", "20")
    assert [each.split()[0] for each in cli("ls").out.splitlines()] == [each.split()[0] for each in lines]


@pytest.mark.parametrize(("session_id", "shown"), [("a  b", "a  b"), ("a\nb", "a\\nb"), ("a\tb", "a\\tb")])
def test_an_id_is_shown_as_it_is_given(cli, session_id, shown):
    """No space of an id is lost, and no control character looks like one: another id would then be copied."""
    with SessionManager("sqlite:///chat.db") as manager:
        manager.create_session(session_id=session_id)
        manager.append(session_id, {"role": "user", "content": "buffet"})

    assert f"\n{shown}  " in cli("ls").out
    assert cli("show", session_id).out.startswith(f"{shown}, of no user")
    assert f" ({shown})\n" in cli("search", "buffet").out


def test_without_a_command_the_newest_are_listed(cli):
    """`pyai-sessions` alone shows what `ls` shows."""
    assert cli() == cli("ls")


def test_the_options_may_stand_before_or_after_the_command(cli, monkeypatch):
    """Where the store is named does not matter."""
    monkeypatch.delenv("PYAI_SESSIONS_STORE")

    assert cli("--store", "chat.db", "--json", "ls") == cli("ls", "--store", "sqlite:///chat.db", "--json")
    assert cli("--store", "chat.db", "--json") == cli("ls", "--store", "chat.db", "--json")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--user", "ada"], ["trip"]),
        (["--user", ""], ["empty"]),
        (["--user", "ada", "--status", "all"], ["trip", "old"]),
        (["--status", "archived"], ["old"]),
        (["--title", "TRAIN"], ["trip"]),
        (["--since", "2026-01-07"], ["empty", "hostile"]),
        (["--until", "2026-01-08"], ["hostile", "trip"]),
        (["--since", "2026-01-07", "--until", "2026-01-08"], ["hostile"]),
        (["--limit", "1"], ["empty"]),
        (["--limit", "0"], ["empty", "hostile", "trip"]),
    ],
)
def test_ls_chooses(cli, options, found):
    """Each filter keeps what fits it."""
    listed = cli("ls", "--json", *options).json

    assert [each["session_id"] for each in listed["sessions"]] == found
    assert listed["more"] is (options == ["--limit", "1"])


def test_ls_says_that_there_are_more(cli):
    """A list that was cut says so, where a person reads it."""
    ran = cli("ls", "-n", 2)

    assert len(ran.out.splitlines()) == 3
    assert "--limit 0" in ran.err


def test_nothing_of_a_conversation_reaches_the_terminal_as_a_command(cli):
    """Escape sequences and marks that turn text around are shown, not obeyed."""
    for ran in (cli("ls"), cli("show", "hostile"), cli("ls", "--json"), cli("peek", "session/hostile")):
        assert "\x1b" not in ran.out
        assert "\u202e" not in ran.out


def test_a_damaged_session_is_told_and_the_others_are_listed(cli):
    """A damaged session is reported, and the others are listed."""
    with SessionManager("sqlite:///chat.db") as manager:
        manager.store.mapping["session/hostile"] = "{"

    ran = cli("ls", "--json")

    assert [each["session_id"] for each in ran.json["sessions"]] == ["empty", "trip"]
    assert (ran.code, ran.json["damaged"]) == (1, True)
    assert "verify" in ran.err
    assert cli("stats").code == 1
    assert cli("stats", "--messages").code == 1
    assert "This is not JSON" in cli("peek", "session/hostile").err


def test_show_prints_a_transcript(cli):
    """Roles, times and what was said, a call of a tool and its result folded to a line each."""
    text = cli("show", "trip").out

    assert text.startswith("Night trains\ntrip, of ada, active, 4 messages, since 2026-01-05 11:00\n\n")
    assert "user, 2026-01-05 11:00:00 +0200:\n    Is there a night train to Vienna?\n" in text
    assert '    calls timetable({"to": "Vienna"})\n' in text
    assert '    timetable returned: ["22:10", "23:55"]\n' in text


def test_show_without_a_session_shows_the_newest(cli):
    """The conversation that is going on is the one that a person asks for."""
    assert cli("show").out == cli("show", "empty").out


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--last", 2], ["t1", "a2"]),
        (["--only", "answers"], ["a1", "a2"]),
        (["--only", "questions", "--only", "tools"], ["q1", "t1"]),
        (["--only", "assistant", "--last", 1], ["a2"]),
        (["--only", "nobody"], []),
    ],
)
def test_show_chooses_messages(cli, options, ids):
    """Roles are chosen first, then the newest of them."""
    found = cli("show", "trip", "--json", *options).json

    assert [each["message_id"] for each in found["messages"]] == ids
    assert found["session"]["message_count"] == 4
    text = cli("show", "trip", *options).out
    assert text.count("2026-01-05 11:0") - 1 == len(ids)


def test_show_says_which_roles_there_are_where_none_fits(cli):
    """A mistyped role shows no message, and names those that the conversation has."""
    assert cli("show", "trip", "--only", "answr").err == "No message is of answr; there are: assistant, tool, user\n"
    assert cli("show", "trip", "--only", "answers").err == ""


def test_show_prints_code_alone(cli):
    """`--code` prints only the code between fences."""
    assert cli("show", "trip", "--code").out == "book('22:10')\n"


def test_stats_counts(cli):
    """Sessions of each status, users, messages, and the days that they were active on."""
    found = cli("stats", "--json").json

    assert found["sessions"] == {"active": 3, "archived": 1}
    assert (found["users"], found["sessions_of_no_user"], found["messages"], found["longest"]) == (2, 1, 5, 4)
    assert found["activity"]["days"]["2026-01-07"] == 1
    assert found["stored_bytes"] >= Path("chat.db").stat().st_size
    assert "2026-01-08  " in cli("stats").out


def test_stats_reads_messages_where_it_is_asked_to(cli):
    """Then a day's activity is its messages, and tokens are counted by day and model."""
    found = cli("stats", "--messages", "--json").json

    assert found["activity"] == {"of": "messages", "days": {"2026-01-05": 4, "2026-01-07": 1}}
    assert found["tokens"] == [{"day": "2026-01-05", "model": "m-1", "input": 40, "output": 12}]
    assert "m-1" in cli("stats", "--messages").out


def test_a_plot_shows_the_newest_days_and_counts_the_others():
    """A plot shows a month, and the number of older ones."""
    lines = plot({"2025-01-01": 5, "2026-01-01": 2, "2026-01-02": 1})

    assert lines[0] == "(earlier days: 5)"
    assert len(lines) == 31


def test_peek_shows_any_document(cli):
    """The keys of all, and the document under one."""
    assert "session/trip" in cli("peek").out.split()
    assert cli("peek", "--prefix", "session/t").out == "session/trip\n"
    assert cli("peek", "--limit", 1).err.startswith("The first 1 keys")
    assert cli("peek", "session/trip", "--json").json["document"]["title"] == "Night trains"
    assert cli("peek", "session/nobody").code == 3


def test_an_encrypted_store_is_read_with_its_keys(cli):
    """Without keys the error says what is missing. No key is shown."""
    keys = {"index": os.urandom(32), "2026-01": os.urandom(32)}
    mapping = SQLiteMapping("encrypted.db")
    SessionManager(KVSessionStore(Encrypted(mapping, keys))).create_session("ada", session_id="secret")
    mapping.close()
    encoded = {name: base64.b64encode(key).decode() for name, key in keys.items()}
    Path("keys.json").write_text(json.dumps(encoded), "utf-8")

    ran = cli("ls", "--json", "--store", "encrypted.db", "--keys", "keys.json")

    assert [each["session_id"] for each in ran.json["sessions"]] == ["secret"]
    for command in (["ls"], ["search", "x"], ["stats"], ["export", "-f", "markdown"]):
        without = cli(*command, "--store", "encrypted.db")
        assert without.code == 1
        assert "give its keys with --keys" in without.err
        assert "amaged" not in without.err
    Path("keys.json").write_text(json.dumps({"index": encoded["index"] + "!"}), "utf-8")
    ran = cli("ls", "--store", "encrypted.db", "--keys", "keys.json")
    assert ran.code == 2
    assert encoded["index"] not in ran.err
