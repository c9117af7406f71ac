"""`title`, `archive`, `restore`, `rm`, `rm-user` and the upkeep of a store: what is done, asked and told."""

import base64
import json
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from pyai_sessions import Encrypted, KVSessionStore, SessionManager, SessionStatus, SQLiteMapping
from pyai_sessions.cli import asking

pytestmark = pytest.mark.usefixtures("store")


def content():
    """Return an export of everything in the store."""
    with SessionManager("sqlite:///chat.db") as manager:
        return dict(manager.store.mapping)


def load(session_id):
    with SessionManager("sqlite:///chat.db") as manager:
        return manager.get_session(session_id)


@pytest.fixture
def person(monkeypatch):
    """Simulate a person at the terminal who gives the test's answers. Return the questions."""
    asked = []

    def sit(answer):
        monkeypatch.setattr(asking.sys, "stdin", type("Terminal", (), {"isatty": lambda _: True})())
        monkeypatch.setattr(asking.click, "confirm", lambda question, **_: asked.append(question) or answer)
        return asked

    return sit


COMMANDS = [
    ["title", "trip", "By train"],
    ["archive", "trip"],
    ["archive", "--inactive", "1"],
    ["restore", "old"],
    ["rm", "trip", "old"],
    ["rm", "--inactive", "1"],
    ["rm-user", "ada"],
    ["purge"],
    ["reindex"],
    ["verify", "--repair"],
    ["backup", "copy.db"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_dry_run_says_what_would_happen_and_changes_nothing(cli, arguments):
    """Each command that changes something can be tried first, by a person and by a script."""
    before = content()

    ran, of_script = cli(*arguments, "--dry-run"), cli(*arguments, "--dry-run", "--json")

    assert (ran.code, of_script.code) == (0, 0)
    assert ran.out
    assert of_script.json["dry_run"] is True
    assert content() == before
    assert not Path("copy.db").exists()


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_each_command_has_a_receipt(cli, arguments):
    """Each command reports what it did, as text and as JSON."""
    yes = ["--yes"] if arguments[0] in ("rm", "rm-user", "purge") else []

    ran = cli(*arguments, *yes, "--json")

    assert (ran.code, ran.json["dry_run"]) == (0, False)


@pytest.mark.parametrize("arguments", [["rm", "trip"], ["rm", "--inactive", "1"], ["rm-user", "ada"]], ids=" ".join)
def test_nothing_is_destroyed_without_an_answer(cli, arguments, person):
    """Without a terminal, destructive commands need `--yes`. At a terminal, "no" keeps everything."""
    before = content()

    assert cli(*arguments).code == 1
    assert "--yes" in cli(*arguments).err
    asked = person(answer=False)
    assert cli(*arguments).code == 1
    assert len(asked) == 1
    assert content() == before
    person(answer=True)
    assert cli(*arguments).code == 0
    assert content() != before


def test_a_title_is_given_and_taken_away(cli):
    """A list shows the title, or else the first question."""
    assert cli("title", "hostile", "Be\ncareful").code == 0
    assert load("hostile").title == "Be\ncareful"
    assert cli("ls", "--user", "bob").out.splitlines()[1].endswith("Be careful")
    assert cli("title", "hostile", "--clear", "--json").json["title_before"] == "Be\ncareful"
    assert load("hostile").title is None
    assert (cli("title", "trip").code, cli("title", "nobody", "x").code) == (2, 3)


def test_sessions_are_archived_and_restored(cli):
    """Sessions can be archived by id, or all that are inactive."""
    assert cli("archive", "trip", "empty").out == "Now archived: trip, empty\n"
    assert load("trip").status is SessionStatus.ARCHIVED
    assert cli("restore", "trip", "old").code == 0
    assert load("old").status is SessionStatus.ACTIVE
    assert cli("archive", "--inactive", 1, "--json").json["archived_count"] == 3 - 1 - 1
    assert cli("archive").code == 2


def test_a_session_that_is_not_there_is_named_and_the_others_are_done(cli):
    """A wrong id does not keep other sessions from being deleted. The exit code shows it."""
    ran = cli("rm", "trip", "nobody", "--yes", "--json")

    assert (ran.code, ran.json["deleted"], ran.json["missing"]) == (3, ["trip"], ["nobody"])
    assert load("trip") is None


def test_a_damaged_session_can_be_deleted(cli):
    """A damaged session can be deleted by its id."""
    with SessionManager("sqlite:///chat.db") as manager:
        manager.store.mapping["session/trip"] = "{"

    assert cli("rm", "trip", "-y").code == 0
    assert "session/trip" not in content()


def test_a_user_is_erased_with_a_receipt(cli):
    """`rm-user` erases sessions of every status and the user's state, and prints what `delete_user` reports."""
    with SessionManager("sqlite:///chat.db") as manager:
        manager.update_user_state("ada", {"theme": "dark"})

    dry = cli("rm-user", "ada", "--dry-run").out
    erased = cli("rm-user", "ada", "--scan", "--yes", "--json").json

    assert dry == "Would be erased of ada: 2 sessions and the user's state: trip, old\n"
    assert (erased["session_ids"], erased["states"]) == (["old", "trip"], 1)
    assert not [key for key in content() if "trip" in key or "ada" in key]


def test_purge_counts_and_removes_what_has_expired(cli):
    """`purge` removes expired sessions and prints their number."""
    with SessionManager("sqlite:///chat.db?ttl=1", clock=lambda: datetime(2026, 1, 1, tzinfo=timezone.utc)) as manager:
        manager.create_session("ada", session_id="over")

    assert cli("purge", "--dry-run", "--json").json["purged"] == 1
    assert "session/over" in content()
    assert cli("purge").code == 1
    assert cli("purge", "--yes", "--json").json["purged"] == 1
    assert "session/over" not in content()


def test_verify_tells_damage_by_its_exit_code_and_repairs(cli):
    """`verify` exits with 0 if all is well, and with 1 if something is damaged. A repair mends it."""
    assert cli("verify").out == "4 sessions read, 0 problems found\n"
    with SessionManager("sqlite:///chat.db") as manager:
        manager.store.mapping["session/hostile"] = "{"

    ran = cli("verify")
    assert (ran.code, "unreadable head" in ran.out) == (1, True)
    assert cli("verify", "--repair", "--dry-run").code == 1
    repaired = cli("verify", "--repair", "--json")
    assert (repaired.code, repaired.json["problems"][0]["repaired"]) == (0, True)
    assert cli("verify").code == 0


def test_a_backup_is_whole_and_replaces_nothing_by_itself(cli):
    """A backup counts the sessions in the copy, and does not overwrite a file."""
    assert cli("backup", "copy.db").out.startswith("copy.db: 4 sessions, ")
    assert cli("ls", "--store", "copy.db").out == cli("ls").out
    assert cli("backup", "copy.db").code == 2
    assert "--overwrite" in cli("backup", "copy.db", "--dry-run").out
    assert cli("backup", "copy.db", "--overwrite").code == 0


def test_keys_are_rotated(cli):
    """The newest key is the last one in the file. A dry run counts what would be encrypted."""
    keys = {"index": os.urandom(32), "2026-01": os.urandom(32)}
    mapping = SQLiteMapping("encrypted.db")
    SessionManager(KVSessionStore(Encrypted(mapping, keys))).create_session("ada", session_id="secret")
    SessionManager(mapping).create_session("ada", session_id="plain")
    mapping.close()
    keys["2026-07"] = os.urandom(32)
    encoded = {name: base64.b64encode(key).decode() for name, key in keys.items()}
    Path("keys.json").write_text(json.dumps(encoded), "utf-8")
    arguments = ["rotate-keys", "--store", "encrypted.db", "--json"]

    assert cli(*arguments).code == 2
    arguments += ["--keys", "keys.json"]
    assert cli(*arguments, "--dry-run").json["rotated"] == 1
    assert cli(*arguments, "--dry-run", "--migrate").json["rotated"] == 2
    assert cli(*arguments, "--migrate").json == {"version": 1, "dry_run": False, "rotated": 2, "key": "2026-07"}
    assert cli(*arguments, "--dry-run").json["rotated"] == 0
