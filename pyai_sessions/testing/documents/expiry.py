"""Tests of sessions that expire: who still sees them, what extends their life, and what purging removes."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from pyai_sessions import (
    ANYONE,
    InvalidValueError,
    Session,
    SessionDeletedError,
    SessionManager,
    SessionNotFoundError,
    SessionStatus,
)
from pyai_sessions.testing.clock import NOON, StoppedClock
from pyai_sessions.testing.documents.fixtures import DocumentFixtures
from pyai_sessions.testing.samples import contents, fill, ids

_USES: dict[str, Callable[[Any], object]] = {
    "append": lambda m: m.append("s", {"role": "user", "content": "too late"}),
    "archive": lambda m: m.archive("s"),
    "restore": lambda m: m.restore("s"),
    "fork": lambda m: m.fork("s"),
    "switch": lambda m: m.switch("s", "branch"),
}


def _searched(manager: Any, between: Callable[[object], None], **options: Any) -> set[str]:
    return {each.session_id for each in manager.search("night", limit=None, progress=between, **options)}


def _exported(manager: Any, between: Callable[[object], None]) -> list[str]:
    class File(io.StringIO):
        def write(self, text: str) -> int:
            if text:
                between(text)
            return super().write(text)

    manager.export_sessions(file := File())
    return [json.loads(line)["session_id"] for line in file.getvalue().splitlines()]


_WALKS: dict[str, Callable[[Any, Callable[[object], None]], Any]] = {
    "search": _searched,
    "search of a user": lambda m, between: _searched(m, between, user_id="ada"),
    "export": _exported,
}


class Expiry(DocumentFixtures):
    """Sessions of a store with a ``ttl``, as any store on the same mapping sees them."""

    @pytest.fixture
    def mortal(self, another: Any, clock: StoppedClock) -> SessionManager:
        """Return a manager whose sessions expire a minute after their last save."""
        return SessionManager(another(ttl=60), clock=clock)

    @pytest.fixture
    def fixed(self, another: Any, clock: StoppedClock) -> SessionManager:
        """Return a manager whose sessions expire a minute after their creation."""
        return SessionManager(another(ttl=60, sliding=False), clock=clock)

    @pytest.mark.parametrize("archived", [False, True])
    def test_an_expired_session_is_there_for_nobody(
        self, mortal: Any, manager: Any, other: Any, clock: StoppedClock, archived: object
    ) -> None:
        """Once a session has expired, no call of any store finds, lists or counts it."""
        manager.create_session("ada", session_id="kept", metadata={"n": 1})
        session = mortal.create_session("ada", session_id="s", metadata={"n": 1})
        fill(session, 100)
        mortal.save(session)
        if archived:
            mortal.archive("s")
        clock.advance(seconds=59)
        assert all(each.get_session("s") == mortal.get_session("s") is not None for each in (manager, other))
        assert [each.count("ada", status=None) for each in (mortal, manager, other)] == [2, 2, 2]
        clock.advance(seconds=1)

        for each in (mortal, manager, other):
            assert each.get_session("s") is each.get_session("s", last=5) is None
            assert ids(each.get_sessions_for_user("ada", include_archived=True)) == ["kept"]
            assert ids(each.list_sessions("ada", status=None)) == ids(each.list_sessions(status=None)) == ["kept"]
            counts = [each.count(user, status=status) for user in ("ada", ANYONE) for status in (*SessionStatus, None)]
            assert counts == [1, 0, 1, 1, 0, 1]
            assert each.count("ada", where={"n": 1}, status=None) == 1
            for use in _USES.values():
                with pytest.raises(SessionNotFoundError):
                    use(each)
        manager.delete("kept")
        assert [each.archive_inactive(days=0) for each in (mortal, other)] == [0, 0]
        assert other.delete("s") is False

    def test_lists_go_on_past_expired_sessions(self, mortal: Any, manager: Any, clock: StoppedClock) -> None:
        """Expired sessions leave no gaps: pages are full, and cursors lead past them."""
        for n in range(30):
            (manager if n % 5 == 0 else mortal).create_session("ada", session_id=f"s{n}")
            clock.advance(seconds=1)
        clock.advance(seconds=60)

        first = manager.list_sessions("ada", limit=4)
        rest = manager.list_sessions("ada", limit=4, cursor=first.next_cursor)

        assert ids(first) + ids(rest) == ["s25", "s20", "s15", "s10", "s5", "s0"]
        assert ids(manager.get_sessions_for_user("ada", limit=2)) == ["s25", "s20"]
        assert (manager.count("ada"), manager.count()) == (6, 6)

    @pytest.mark.parametrize("act", ["save", "append", "archive", "renew"])
    def test_a_sliding_life_is_prolonged_by_writing_and_on_demand(
        self, mortal: Any, other: Any, clock: StoppedClock, act: str
    ) -> None:
        """Each write of a session starts its ttl anew. So does a read with `renew=True`."""
        session = mortal.create_session("ada", session_id="s")
        clock.advance(seconds=50)
        session.add_message("user", "Still there?")
        acts: dict[str, Callable[[], object]] = {
            "save": lambda: mortal.save(session),
            "append": lambda: mortal.append("s", {"role": "user", "content": "Still there?"}),
            "archive": lambda: mortal.archive("s"),
            "renew": lambda: mortal.get_session("s", renew=True),
        }

        acts[act]()

        clock.advance(seconds=59)
        assert other.get_session("s").expires_at == clock.now.replace(second=50)
        assert other.list_sessions(status=None)[0].expires_at == other.get_session("s").expires_at
        assert other.count("ada", status=None) == 1
        clock.advance(seconds=1)
        assert (other.get_session("s"), other.count("ada", status=None)) == (None, 0)

    @pytest.mark.parametrize("door", _WALKS)
    def test_what_is_prolonged_while_a_call_is_at_other_sessions_is_found(
        self, mortal: Any, clock: StoppedClock, door: str
    ) -> None:
        """A session that lives all the time is found, though the life that it had when the call began is over."""
        for session_id in ("first", "second", "third"):
            mortal.create_session("ada", session_id=session_id)
            mortal.append(session_id, {"role": "user", "content": "a long night"})
            clock.advance(seconds=1)

        def others_write(_: object) -> None:
            for session_id in 2 * ("first", "second", "third"):
                mortal.append(session_id, {"role": "user", "content": "and a day"})
                clock.advance(seconds=15)

        assert sorted(_WALKS[door](mortal, others_write)) == ["first", "second", "third"]

    def test_reading_prolongs_no_life(self, mortal: Any, clock: StoppedClock) -> None:
        """Reading a session or a list does not extend a session's life."""
        mortal.create_session("ada", session_id="s")
        clock.advance(seconds=50)

        part = mortal.get_session("s", last=0)
        mortal.load_history(part)
        assert part in mortal.get_sessions_for_user("ada")
        assert mortal.list_sessions("ada")

        clock.advance(seconds=10)
        assert mortal.get_session("s") is None

    def test_a_store_without_a_ttl_leaves_the_time_as_it_is(
        self, mortal: Any, manager: Any, clock: StoppedClock
    ) -> None:
        """A store without a ttl keeps the end of a session that it saves. Its own sessions do not expire."""
        mortal.create_session("ada", session_id="s")
        clock.advance(seconds=50)
        if manager.create_session("ada").expires_at is not None:
            return  # the store under test has a ttl itself
        session = manager.get_session("s")
        session.add_message("user", "Still there?")
        manager.save(session)
        manager.append("s", {"role": "user", "content": "Hello?"})

        clock.advance(seconds=9)
        assert contents(manager.get_session("s")) == ["Still there?", "Hello?"]
        clock.advance(seconds=1)
        assert manager.get_session("s") is None

    @pytest.mark.parametrize("act", ["save", "append"])
    def test_a_session_from_before_there_was_a_ttl_expires_after_its_next_save(
        self, mortal: Any, manager: Any, other: Any, clock: StoppedClock, act: str
    ) -> None:
        """A session from before the store had a ttl gets one at its next save."""
        session = manager.create_session("ada", session_id="s")
        session.add_message("user", "Still there?")
        acts: dict[str, Callable[[], object]] = {
            "save": lambda: mortal.save(session),
            "append": lambda: mortal.append("s", {"role": "user", "content": "Still there?"}),
        }

        acts[act]()

        clock.advance(seconds=59)
        assert [each.count("ada") for each in (mortal, other)] == [1, 1]
        clock.advance(seconds=1)
        assert [each.count(user) for each in (mortal, other) for user in ("ada", ANYONE)] == [0, 0, 0, 0]
        assert (other.get_session("s"), other.list_sessions()) == (None, [])
        assert mortal.purge_expired() == 1

    def test_nothing_prolongs_a_fixed_life(self, fixed: Any, clock: StoppedClock) -> None:
        """With `sliding=False` a session ends a fixed time after its creation. A fork starts its own time."""
        session = fixed.create_session("ada", session_id="s")
        for n in range(5):
            clock.advance(seconds=10)
            session.add_message("user", f"message {n}")
            fixed.save(session)
            fixed.append("s", {"role": "user", "content": "more"})
        fixed.fork("s", new_id="fork")
        with pytest.raises(InvalidValueError) as caught:
            fixed.get_session("s", renew=True)
        assert caught.value.path == "renew"
        assert session.expires_at == NOON.replace(minute=1)
        clock.advance(seconds=10)

        assert fixed.get_session("s") is None
        assert len(contents(fixed.get_session("fork"))) == 10
        clock.advance(seconds=50)
        assert fixed.get_session("fork") is None

    @pytest.mark.parametrize("mode", ["merge", "error", "overwrite"])
    def test_a_copy_of_an_expired_session_is_not_saved(
        self, mortal: Any, manager: Any, raw: Any, clock: StoppedClock, mode: Any
    ) -> None:
        """Saving a copy of an expired session raises SessionDeletedError, whether it was purged or not."""
        session = mortal.create_session("ada", session_id="s")
        clock.advance(seconds=60)
        session.add_message("user", "too late")

        for each in (mortal, manager):
            with pytest.raises(SessionDeletedError):
                each.save(session, on_conflict=mode)
        mortal.purge_expired()
        with pytest.raises(SessionDeletedError):
            mortal.save(session, on_conflict=mode)

        assert self.ours(raw) == []

    def test_a_copy_from_before_another_writer_prolonged_its_life_is_merged(
        self, mortal: Any, other: Any, clock: StoppedClock
    ) -> None:
        """A copy whose own time is over can be saved, if another writer extended the stored session's life."""
        mine = mortal.create_session("ada", session_id="s")
        clock.advance(seconds=50)
        mortal.append("s", {"role": "user", "content": "theirs"})
        clock.advance(seconds=50)
        mine.add_message("user", "mine")

        mortal.save(mine)

        assert contents(other.get_session("s")) == ["theirs", "mine"]
        clock.advance(seconds=59)
        assert other.get_session("s") == mine

    @pytest.mark.parametrize("how", ["create", "save", "get_or_create", "import", "fork"])
    def test_the_id_of_an_expired_session_is_free(  # noqa: PLR0917
        self, mortal: Any, manager: Any, other: Any, raw: Any, clock: StoppedClock, how: str
    ) -> None:
        """A new session under the id of an expired one has nothing of it, and no page of it stays."""
        former = mortal.create_session("ada", session_id="s", state={"of": "the former"})
        fill(former, 100)
        mortal.save(former)
        manager.create_session("bob", session_id="parent")
        clock.advance(seconds=60)
        hows: dict[str, Callable[[], object]] = {
            "create": lambda: manager.create_session("bob", session_id="s"),
            "save": lambda: manager.save(Session("s", user_id="bob")),
            "get_or_create": lambda: manager.get_or_create_session("s", "bob"),
            "import": lambda: manager.import_sessions([Session("s", user_id="bob")]),
            "fork": lambda: manager.fork("parent", new_id="s"),
        }

        hows[how]()

        found = other.get_session("s")
        assert (found.user_id, found.state, contents(found)) == ("bob", {}, [])
        assert (other.count("ada"), other.count("bob")) == (0, 2)
        assert not [key for key in self.ours(raw) if key.startswith("messages/s/")]
        assert self.sound(other)

    def test_purging_removes_all_that_expired_and_nothing_else(
        self, mortal: Any, manager: Any, other: Any, raw: Any, clock: StoppedClock
    ) -> None:
        """`purge_expired` removes expired sessions with pages and index entries, and leaves all others."""
        for n in range(230):
            (manager if n % 23 == 0 else mortal).create_session(f"user{n % 3}", session_id=f"s{n}")
        long = mortal.get_session("s1")
        fill(long, 100)
        mortal.save(long)
        mortal.archive("s2")
        clock.advance(seconds=50)
        mortal.append("s3", {"role": "user", "content": "Still there?"})
        clock.advance(seconds=10)
        told: list[int] = []
        would_go = other.purge_expired(dry_run=True)

        purged = other.purge_expired(progress=told.append)

        assert purged == 219
        assert told[-1] == 219
        assert told == sorted(told)
        assert other.purge_expired() == 0
        left = sorted(f"s{n}" for n in (3, *range(0, 230, 23)))
        assert self.ours(raw) == sorted(f"session/{each}" for each in left)
        assert sorted([*left, *ids(would_go)]) == sorted(f"s{n}" for n in range(230))
        assert other.purge_expired(dry_run=True) == []
        assert sorted(ids(other.list_sessions(limit=None))) == left
        assert other.count() == len(left)
        assert self.sound(other)

    def test_a_session_is_purged_as_it_is_deleted(
        self, mortal: Any, manager: Any, other: Any, raw: Any, clock: StoppedClock
    ) -> None:
        """Purging keeps pages that other sessions still name, and leaves no reference of an expired fork."""
        parent = manager.create_session("ada", session_id="parent")
        fill(parent, 100)
        manager.save(parent)
        mortal.fork("parent", new_id="fork")
        clock.advance(seconds=30)
        mortal.fork("fork", new_id="later")
        clock.advance(seconds=30)

        assert other.purge_expired() == 1

        assert len(contents(other.get_session("later"))) == len(contents(other.get_session("parent"))) == 100
        assert self.sound(other)
        other.delete("parent")
        assert len(contents(other.get_session("later"))) == 100
        clock.advance(seconds=30)
        assert other.purge_expired() == 1
        assert self.ours(raw) == []

    def test_purging_passes_over_damaged_sessions(
        self, mortal: Any, manager: Any, damage: Any, raw: Any, clock: StoppedClock
    ) -> None:
        """`purge_expired` leaves damaged sessions to `verify`, which reports them."""
        for n in range(3):
            mortal.create_session("ada", session_id=f"s{n}")
        clock.advance(seconds=60)
        damage("s1")

        assert ids(manager.purge_expired(dry_run=True)) == ["s0", "s2"]
        assert manager.purge_expired() == 2

        assert self.ours(raw) == ["session/s1"]
        assert [each.kind for each in manager.verify().problems] == ["unreadable head"]

    def test_what_expired_is_held_until_it_is_purged(
        self, mortal: Any, manager: Any, raw: Any, clock: StoppedClock
    ) -> None:
        """Until it is purged, an expired session is part of its user's export and erasure."""
        session = mortal.create_session("ada", session_id="s")
        fill(session, 100)
        mortal.save(session)
        mortal.create_session("ada", session_id="t")
        manager.create_session("bob", session_id="kept")
        clock.advance(seconds=60)
        file = io.StringIO()

        assert manager.export_sessions(file, user_id="ada") == 2
        assert manager.delete_user("ada").session_ids == ["s", "t"]

        assert "message 99" in file.getvalue()
        assert self.ours(raw) == ["session/kept"]
        assert self.sound(manager)

    def test_what_expired_is_sound_until_it_is_purged(self, mortal: Any, other: Any, clock: StoppedClock) -> None:
        """`verify` and `reindex` report no problem with an expired session, and do not bring it back."""
        mortal.create_session("ada", session_id="s")
        other.create_session("ada", session_id="kept")
        clock.advance(seconds=60)

        assert self.sound(other)
        other.reindex()

        assert other.verify(repair=True).problems == []
        assert (ids(other.list_sessions("ada")), other.count("ada")) == (["kept"], 1)
        assert mortal.purge_expired() == 1

    def test_a_document_tells_when_it_expires(self, mortal: Any, raw: Any) -> None:
        """A head has its end as ISO 8601 in UTC before the conversation, or no such field."""
        mortal.create_session("ada", session_id="s")

        head = json.loads(raw["session/s"])

        assert (head["updated_at"], head["expires_at"]) == ("2026-01-31T12:00:00Z", "2026-01-31T12:01:00Z")
        assert list(head).index("expires_at") < list(head).index("metadata")
