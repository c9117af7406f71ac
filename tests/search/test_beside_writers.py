"""Searches on every storage while others write: edits, deletions, expiry, rotated keys, an index that is made anew."""

import threading
from contextlib import closing
from datetime import timedelta

import pytest

from pyai_sessions import Message
from tests.search.stored import KINDS, Stored
from tests.search.test_searching import fill

ROUNDS = 30


class Writer(threading.Thread):
    """Changes sessions through the second manager, round after round, and keeps what is gone for good."""

    def __init__(self, stored):
        super().__init__()
        self.stored = stored
        self.gone = set()
        self.failure = None

    def run(self):
        try:
            for number in range(ROUNDS):
                self.round(self.stored.other, number)
        except BaseException as err:  # noqa: BLE001 (the test raises it)
            self.failure = err

    def round(self, manager, number):
        self.stored.clock.advance(seconds=40)
        for each in ("a", "b"):
            manager.append(each, *[Message("user", f"a day {n}") for n in range(7)])
        manager.replace_message("a", f"a-{number % 10}", content=f"edited {number}")
        manager.remove_message("b", f"b-{number}")
        fill(manager, self.stored.clock, ["a short night"] * 35, "ada", f"short {number}")
        if number:
            manager.delete(f"short {number - 1}")
            self.gone.add(f"short {number - 1}")
        if number % 10 == 5:
            manager.archive("old" if number == 5 else f"short {number}")
            manager.purge_expired()
        if number % 10 == 7 and "encrypted" in self.stored.kind:
            manager.rotate_keys()


def begun(stored):
    """Store two sessions, of each ten messages to look for far back, one that will expire, and one to be archived."""
    for name in ("a", "b", "fading", "old"):
        session = stored.manager.create_session("ada", session_id=name)
        for n in range(60):
            content = f"a long night {n}" if 40 <= n < 50 else f"other {n}"
            session.add_message("user", content, message_id=f"{name}-{n}", timestamp=stored.clock())
        stored.manager.save(session)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("indexes", [False, True], ids=["", "index made anew"])
def test_a_search_beside_writers_finds_what_stays_and_nothing_that_is_gone(tmp_path, valkey_server, kind, indexes):
    """Each search has every message that is there all the time, and none that was gone or expired before it began."""
    with closing(Stored(kind, tmp_path, valkey_server.url)) as stored:
        begun(stored)
        end = stored.clock() + timedelta(seconds=1000)
        stays = {f"{name}-{n}" for name in "ab" for n in range(40, 50)}
        writer = Writer(stored)
        writer.start()
        while writer.is_alive():
            gone = {*writer.gone, *(["fading"] if stored.clock() >= end else [])}
            if indexes:
                stored.manager.build_search_index(rebuild=True)
            for options in ({}, {"user_id": "ada"}, {"order": "best"}):
                found = stored.search("night", limit=None, **options)
                assert stays <= {each.message_id for each in found}
                assert len({each.message_id for each in found}) == len(found)
                assert not gone & {each.session_id for each in found}
                assert all("night" in each.snippet for each in found)
        writer.join()
    if writer.failure:
        raise writer.failure
