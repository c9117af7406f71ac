"""Tests of calls that read more than once, while others write between any two of these reads."""

import io
import json
import secrets
from contextlib import closing, suppress
from itertools import count

import pytest

from pyai_sessions import (
    KVSessionStore,
    Message,
    RedisSessionStore,
    SessionError,
    SessionManager,
    SQLiteSessionStore,
)
from pyai_sessions.testing.clock import StoppedClock
from pyai_sessions.testing.samples import ids

READS = ("read", "scan", "keys", "listings", "count")
"""The methods of a storage that read."""


class Interrupted:
    """A manager whose storage lets others act before one of its reads: the one of this number."""

    def __init__(self, manager):
        self.manager = manager
        self._storage = manager._engine.backend.storage

    def before(self, number, action):
        """Let *action* be called before the read of this number. Return what tells whether there was such a read."""
        reads, acted = count(1), []

        def hooked(read):
            def other(*arguments, **options):
                if next(reads) == number:
                    acted.append(number)
                    action()
                return read(*arguments, **options)

            return other

        for name in READS:
            setattr(self._storage, name, hooked(getattr(type(self._storage), name).__get__(self._storage)))
        return acted

    def release(self):
        for name in READS:
            with suppress(AttributeError):
                delattr(self._storage, name)


@pytest.fixture
def clock():
    return StoppedClock()


@pytest.fixture(params=["dict", "sqlite", "valkey"])
def managers(request, tmp_path, clock):
    """Return two managers of one storage, by separate stores; the first can be interrupted."""
    kind, mapping, prefix = request.param, {}, f"{secrets.token_hex(8)}:"

    def make():
        if kind == "dict":
            return KVSessionStore(mapping, ttl=1000)
        if kind == "sqlite":
            return SQLiteSessionStore(tmp_path / "chat.db", ttl=1000, synchronous="OFF")
        return RedisSessionStore(request.getfixturevalue("valkey_server").url, prefix, ttl=1000)

    with closing(make()) as one, closing(make()) as other:
        yield Interrupted(SessionManager(one, clock=clock)), SessionManager(other, clock=clock)


# Of one user ----------------------------------------------------------------------------------------------------------


def exported(manager, **options):
    manager.export_sessions(file := io.StringIO(), **options)
    return file.getvalue()


def completed(manager):
    part = manager.get_session("s", user_id="ada", last=3)
    manager.load_history(part)
    return said(part)


def said(session):
    return session and [session.title, *(each.content for each in session.messages)]


OF_ADA = {
    "get_session": lambda m: said(m.get_session("s", user_id="ada")),
    "get_session, last": lambda m: said(m.get_session("s", user_id="ada", last=3)),
    "load_history": completed,
    "get_sessions": lambda m: [said(each) for each in m.get_sessions(["s"], user_id="ada").values()],
    "get_sessions_for_user": lambda m: [said(each) for each in m.get_sessions_for_user("ada", include_archived=True)],
    "list_sessions": lambda m: repr([s.title for s in m.list_sessions("ada", status=None)]),
    "get_messages": lambda m: [x.content for x in m.get_messages("s", user_id="ada", limit=None)],
    "get_message": lambda m: [x.content for x in [m.get_message("s", "m1", user_id="ada")] if x],
    "search": lambda m: [
        (each.title, each.snippet, [message.content for message in each.context])
        for each in m.search("words", user_id="ada", context=2, limit=3)
    ],
    "export_sessions": lambda m: exported(m, user_id="ada"),
    "export_sessions, one": lambda m: exported(m, session_id="s", user_id="ada"),
}


def fill(manager, user_id, words):
    said = [Message("user", f"{words} {n} " + "x" * 300, message_id=f"m{n}") for n in range(100)]
    manager.update("s", *said, title=words, create=True, user_id=user_id)


def replaced(manager):
    manager.delete("s")
    fill(manager, "bob", "secret words")


def given_away(manager):
    session = manager.get_session("s")
    session.clear_messages()
    session.user_id, session.title = "bob", "secret words"
    for n in range(100):
        session.add_message("user", f"secret words {n} " + "x" * 300)
    manager.save(session, on_conflict="overwrite")


@pytest.mark.parametrize("act", [replaced, given_away])
@pytest.mark.parametrize("name", OF_ADA)
def test_a_call_for_a_user_returns_nothing_of_anothers_session_of_the_same_id(managers, name, act):
    """Whenever the session is replaced by one of another user, or becomes one."""
    interrupted, other = managers
    for number in count(1):
        fill(other, "ada", "her words")
        acted = interrupted.before(number, lambda: act(other))
        found = ""
        try:
            found = OF_ADA[name](interrupted.manager)
        except SessionError:
            pass
        finally:
            interrupted.release()
        assert "secret" not in repr(found)
        other.delete("s")
        if not acted:
            assert "her words" in repr(found)
            break


# Of all that is there -------------------------------------------------------------------------------------------------


def copied(manager):
    with SessionManager() as target:
        manager.copy_sessions(target)
        return ids(target.list_sessions(limit=None))


def exported_ids(manager, **options):
    return [json.loads(line)["session_id"] for line in exported(manager, **options).splitlines()]


ALL = {
    "list_sessions": lambda m: ids(m.list_sessions(limit=None)),
    "list_sessions, oldest": lambda m: ids(m.list_sessions(order="oldest", limit=None)),
    "list_sessions, where": lambda m: ids(m.list_sessions("ada", where={"a": 1}, limit=None)),
    "get_sessions_for_user": lambda m: ids(m.get_sessions_for_user("ada")),
    "search": lambda m: [each.session_id for each in m.search("words", limit=None)],
    "count": lambda m: m.count("ada"),
    "count, where": lambda m: m.count("ada", where={"a": 1}),
    "export_sessions": exported_ids,
    "export_sessions, user": lambda m: exported_ids(m, user_id="ada"),
    "copy_sessions": copied,
}


@pytest.mark.parametrize("name", ALL)
def test_a_call_for_all_sessions_has_each_that_lives_all_the_time(managers, clock, name):
    """Whenever others write these sessions: their lives are prolonged, and they move to the other end of lists."""
    interrupted, other = managers
    names = [f"s{n:03}" for n in range(130)]
    for each in names:
        clock.advance(seconds=1)
        other.update(each, Message("user", "words"), metadata={"a": 1}, create=True, user_id="ada")

    def write():
        for step in range(2):
            clock.advance(seconds=600)
            for each in names if step else reversed(names):
                other.append(each, Message("user", "more"))

    for number in range(1, 7):
        acted = interrupted.before(number, write)
        try:
            found = ALL[name](interrupted.manager)
        finally:
            interrupted.release()
        assert found == len(names) if isinstance(found, int) else sorted(found) == names
        if not acted:
            break
