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
    """Return all that the store holds, as an export has it."""
    with SessionManager("sqlite:///chat.db") as manager:
        return dict(manager.store.mapping)


def load(session_id):
    with SessionManager("sqlite:///chat.db") as manager:
        return manager.get_session(session_id)


@pytest.fixture
def person(monkeypatch):
    """Lets a person sit at the terminal, who answers each question as the test says; returns the questions."""
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
    """What was done is told, to a person and to a script."""
    yes = ["--yes"] if arguments[0] in ("rm", "rm-user", "purge") else []

    ran = cli(*arguments, *yes, "--json")

    assert (ran.code, ran.json["dry_run"]) == (0, False)


@pytest.mark.parametrize("arguments", [["rm", "trip"], ["rm", "--inactive", "1"], ["rm-user", "ada"]], ids=" ".join)
def test_nothing_is_destroyed_without_an_answer(cli, arguments, person):
    """Where nobody can be asked, `--yes` is needed; a person who says no keeps all."""
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
    """The list shows it, and without it the first question."""
    assert cli("title", "hostile", "Be\ncareful").code == 0
    assert load("hostile").title == "Be\ncareful"
    assert cli("ls", "--user", "bob").out.splitlines()[1].endswith("Be careful")
    assert cli("title", "hostile", "--clear", "--json").json["title_before"] == "Be\ncareful"
    assert load("hostile").title is None
    assert (cli("title", "trip").code, cli("title", "nobody", "x").code) == (2, 3)


def test_sessions_are_archived_and_restored(cli):
    """By their ids, or all that were idle for long."""
    assert cli("archive", "trip", "empty").out == "Now archived: trip, empty\n"
    assert load("trip").status is SessionStatus.ARCHIVED
    assert cli("restore", "trip", "old").code == 0
    assert load("old").status is SessionStatus.ACTIVE
    assert cli("archive", "--inactive", 1, "--json").json["archived_count"] == 3 - 1 - 1
    assert cli("archive").code == 2


def test_a_session_that_is_not_there_is_named_and_the_others_are_done(cli):
    """One wrong id does not keep the right ones from being deleted, and the exit code tells."""
    ran = cli("rm", "trip", "nobody", "--yes", "--json")

    assert (ran.code, ran.json["deleted"], ran.json["missing"]) == (3, ["trip"], ["nobody"])
    assert load("trip") is None


def test_a_damaged_session_can_be_deleted(cli):
    """What cannot be read can be thrown away by its id."""
    with SessionManager("sqlite:///chat.db") as manager:
        manager.store.mapping["session/trip"] = "{"

    assert cli("rm", "trip", "-y").code == 0
    assert "session/trip" not in content()


def test_a_user_is_erased_with_a_receipt(cli):
    """Sessions of every status and the user's state go; the receipt is what `delete_user` tells."""
    with SessionManager("sqlite:///chat.db") as manager:
        manager.update_user_state("ada", {"theme": "dark"})

    dry = cli("rm-user", "ada", "--dry-run").out
    erased = cli("rm-user", "ada", "--scan", "--yes", "--json").json

    assert "2 sessions and the state of the user" in dry
    assert (erased["session_ids"], erased["states"]) == (["old", "trip"], 1)
    assert not [key for key in content() if "trip" in key or "ada" in key]


def test_purge_counts_and_removes_what_has_expired(cli):
    """Sessions whose time is over are in no list; their space is freed."""
    with SessionManager("sqlite:///chat.db?ttl=1", clock=lambda: datetime(2026, 1, 1, tzinfo=timezone.utc)) as manager:
        manager.create_session("ada", session_id="over")

    assert cli("purge", "--dry-run", "--json").json["purged"] == 1
    assert "session/over" in content()
    assert cli("purge").code == 1
    assert cli("purge", "--yes", "--json").json["purged"] == 1
    assert "session/over" not in content()


def test_verify_tells_damage_by_its_exit_code_and_repairs(cli):
    """0: all is well. 1: something is damaged. After a repair all is well."""
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
    """The sessions are counted in the copy."""
    assert cli("backup", "copy.db").out.startswith("copy.db: 4 sessions, ")
    assert cli("ls", "--store", "copy.db").out == cli("ls").out
    assert cli("backup", "copy.db").code == 2
    assert "--overwrite" in cli("backup", "copy.db", "--dry-run").out
    assert cli("backup", "copy.db", "--overwrite").code == 0


def test_keys_are_rotated(cli):
    """The newest key is the last of the file; a dry run counts what it would encrypt."""
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
