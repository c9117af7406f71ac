"""`search` and `search-index`: what is found, and how it is shown."""

import json
from pathlib import Path

import pytest

from pyai_sessions import SessionManager

pytestmark = pytest.mark.usefixtures("store")


def test_search_shows_where_words_stand(cli):
    """Each hit is a line below its session, with the match marked."""
    out = cli("search", "night", "train").out

    assert out.splitlines()[0] == "Night trains (trip, ada)"
    assert "message 1: Is there a [night] [train] to Vienna?" in out


@pytest.mark.parametrize(
    ("arguments", "positions"),
    [
        (["vienna"], [0]),
        (["vien*"], [0]),
        (["vienna", "--only", "answers"], []),
        (["vienna", "--user", "bob"], []),
        (["22:10"], [3]),
        (["22:10", "--tools"], [3, 2]),
        (["22:10", "--tools", "--one-per-session"], [3]),
        (["--mode", "substring", "at 22:1"], [3]),
        (["vienna OR yes", "--limit", "1"], [3]),
        (["vienna", "--since", "2026-01-06"], []),
        (["vienna", "--session", "trip", "--status", "all"], [0]),
    ],
)
def test_search_chooses(cli, arguments, positions):
    """Its options are those of the library's search."""
    ran = cli("search", "--json", *arguments)

    assert ran.code == 0
    assert sorted(each["position"] for each in ran.json["hits"]) == sorted(positions)


def test_search_shows_the_messages_around_a_hit(cli):
    """`--context` shows that many messages before and after a hit."""
    out = cli("search", "vienna", "-C", 1).out

    assert "        Is there a night train to Vienna?" in out
    assert "Let me look." in out


def test_a_query_that_means_nothing_is_wrong_usage(cli):
    """The text says what is wrong with it."""
    ran = cli("search", '"open')

    assert (ran.code, ran.out) == (2, "")
    assert ran.err
    assert cli("search", "nowhere").err == "Nothing was found.\n"


def test_a_session_that_is_not_there_is_told_by_a_search(cli):
    """A mistyped id finds nothing for another reason than a query that nothing fits."""
    ran = cli("search", "vienna", "--session", "tripp")

    assert (ran.code, ran.out) == (3, "")
    assert "'tripp'" in ran.err


def test_hits_are_inert(cli):
    """Escape sequences in hits do not reach the terminal."""
    out = cli("search", "evil").out

    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[evil]" in out


def test_a_damaged_session_is_told_by_a_search(cli):
    """A search reports a damaged session."""
    with SessionManager("sqlite:///chat.db") as manager:
        manager.store.mapping["session/hostile"] = "{"

    ran = cli("search", "vienna", "--json")

    assert (ran.code, len(ran.json["hits"]), ran.json["damaged"]) == (1, 1, True)


def test_an_index_that_no_file_would_keep_is_not_made(cli, valkey_server):
    """An index of a server's store, or of an encrypted one, lies in the memory of a process: the command makes none."""
    Path("keys.json").write_text(json.dumps({"index": "A" * 43 + "=", "k": "B" * 43 + "="}), "utf-8")
    with SessionManager(f"{valkey_server.url}?prefix=no-index:") as manager:
        manager.create_session("ada", session_id="s")

    for given in (["--store", f"{valkey_server.url}?prefix=no-index:"], ["--keys", "keys.json"]):
        ran = cli("search-index", *given)
        assert (ran.code, ran.out) == (1, "")
        assert "in memory" in ran.err


def test_an_index_is_made_and_removed(cli):
    """A search finds the same with it."""
    before = cli("search", "night", "--json").out

    assert cli("search-index", "--dry-run").out.startswith("4 sessions")
    assert cli("search-index", "--json").json["documents"] == 4
    assert cli("search-index", "--json").json["documents"] == 0
    assert cli("search", "night", "--json").out == before
    assert cli("search-index", "--rebuild", "--json").json["documents"] == 4
    assert cli("search-index", "--drop").code == 0
    assert cli("search", "night", "--json").out == before
