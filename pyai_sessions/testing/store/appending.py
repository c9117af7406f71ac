"""Tests of appending: order, repetition, refusal, and what a store remembers of its last append."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pyai_sessions import InvalidValueError, Message, SessionArchivedError, SessionNotFoundError
from pyai_sessions.testing.recording import Event, Recorder, check_events
from pyai_sessions.testing.samples import HOSTILE_IDS, contents, filled
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import of_all_users, with_revisions


class Appending(StoreFixtures):
    def test_append_adds_messages_in_order(self, manager: Any, other: Any, clock: Any) -> None:
        """`append` adds messages, or dicts of their fields, to the end. The clock gives a missing timestamp."""
        manager.create_session("ada", session_id="s")
        clock.advance(minutes=5)
        manager.append("s", Message("user", "one"), {"role": "assistant", "content": "two"})
        manager.append("s", {"role": "user", "content": "three", "metadata": {"a": 1}})

        stored = other.get_session("s")

        assert contents(stored) == ["one", "two", "three"]
        assert stored.messages[1].timestamp == clock.now
        assert stored.updated_at >= clock.now

    def test_append_one_by_one_makes_pages(self, manager: Any, other: Any) -> None:
        """Two hundred single appends store two hundred messages."""
        manager.create_session("ada", session_id="s")
        for n in range(120):
            manager.append("s", {"role": "user", "content": f"message {n}"})

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(120)]
        assert self.sound(other)

    def test_appending_a_message_twice_stores_it_once(self, manager: Any) -> None:
        """A repeated append of the same message id stores it once."""
        manager.create_session("ada", session_id="s")
        message = Message("user", "one")
        manager.append("s", message)
        manager.append("s", message, Message("assistant", "two"))

        assert contents(manager.get_session("s")) == ["one", "two"]

    def test_appending_nothing_changes_nothing(self, manager: Any) -> None:
        """An append without messages writes nothing."""
        before = manager.create_session("ada", session_id="s").revision
        manager.append("s")

        assert manager.get_session("s").revision == before

    def test_appending_to_an_absent_session_raises(self, manager: Any) -> None:
        """Appending to an absent session raises, and does not create it."""
        with pytest.raises(SessionNotFoundError) as caught:
            manager.append("s", {"role": "user", "content": "x"})

        assert caught.value.session_id == "s"
        assert manager.get_session("s") is None

    def test_a_refused_message_leaves_the_others_of_its_call_unwritten(self, manager: Any) -> None:
        """If one message of a call is refused, none is stored."""
        manager.create_session("ada", session_id="s")

        with pytest.raises(InvalidValueError):
            manager.append("s", {"role": "user", "content": "fine"}, {"role": "user", "content": {1, 2}})

        assert manager.get_session("s").message_count == 0

    @with_revisions
    def test_appends_of_threads_all_survive(self, manager: Any, other: Any) -> None:
        """Appends of many threads are all stored once, each thread's in order, and every later read has them."""
        manager.create_session("ada", session_id="s")
        events: list[Event] = []

        def work(name: int) -> None:
            through = Recorder((manager, other)[name % 2], events.append)
            for n in range(10):
                through.append(
                    "s", {"role": "user", "content": f"{name}: {n}"}, {"role": "user", "content": f"{name}: {n}!"}
                )
                if n % 3 == 0:
                    through.get_session("s")

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))

        check_events(manager, events)

    # Repeated appends by one store, which remembers what it stored last ---------------------------------------------

    @pytest.fixture
    def known(self, manager: Any) -> Any:
        """Append to a session by the manager's store, so that it remembers the session. Return the 3 contents."""
        manager.create_session("ada", session_id="s", metadata={"a": 1}, state={"n": 1})
        for n in range(3):
            manager.append("s", {"role": "user", "content": f"message {n}", "message_id": f"m{n}"})
        return [f"message {n}" for n in range(3)]

    @of_all_users
    @pytest.mark.parametrize("through", ["the same", "another"])
    @pytest.mark.parametrize(
        "case",
        [
            (lambda m, s: m.append("s", {"role": "user", "content": "theirs"}), [0, 1, 2, "theirs"]),
            (lambda m, s: s.add_message("user", "theirs") and m.save(s), [0, 1, 2, "theirs"]),
            (lambda m, s: m.save(filled(s, 100, 3)), range(103)),
            (lambda m, s: s.set_state("n", 2) or m.save(s), [0, 1, 2]),
            (lambda m, s: s.pop() and m.save(s), [0, 1]),
            (lambda m, s: s.remove_message("m0") and m.save(s), [1, 2]),
            (lambda m, s: s.clear_messages() or m.save(s), []),
            (lambda m, s: m.archive("s") or m.restore("s"), [0, 1, 2]),
            (lambda m, s: m.delete("s") and m.create_session("bob", session_id="s"), []),
            (lambda m, s: m.delete("s") and m.import_sessions([s.to_dict()]), [0, 1, 2]),
            (lambda m, s: m.clear_all() and m.get_or_create_session("s"), []),
        ],
        ids="append save pages state pop remove clear archive create import clear_all".split(),  # noqa: SIM905
    )
    def test_an_append_follows_whatever_is_stored(
        self, manager: Any, other: Any, known: Any, through: Any, case: Any
    ) -> None:
        """An append goes to the end of what is stored now, whatever others changed since the store's last append."""
        change, left = case
        change(other if through == "another" else manager, other.get_session("s"))
        expected = [each if isinstance(each, str) else f"message {each}" for each in left]
        before = other.get_session("s")

        manager.append("s", {"role": "user", "content": "new"}, {"role": "user", "content": "and newer"})
        manager.append("s", {"role": "user", "content": "newest"})

        stored = other.get_session("s")
        assert contents(stored) == [*expected, "new", "and newer", "newest"]
        assert (stored.user_id, stored.state, stored.metadata) == (before.user_id, before.state, before.metadata)
        assert stored.updated_at > before.updated_at
        assert [each.message_count for each in other.list_sessions()] == [len(expected) + 3]
        assert self.sound(other)

    @pytest.mark.parametrize("through", ["the same", "another"])
    def test_an_append_is_refused_as_what_is_stored_refuses_it(
        self, manager: Any, other: Any, known: Any, through: Any
    ) -> None:
        """If others archived or deleted the session since the last append, the next one raises as a first one does."""
        act = other if through == "another" else manager
        act.archive("s")
        for _ in range(2):
            with pytest.raises(SessionArchivedError):
                manager.append("s", {"role": "user", "content": "too late"})
        assert contents(other.get_session("s")) == known

        act.delete("s")
        for _ in range(2):
            with pytest.raises(SessionNotFoundError):
                manager.append("s", {"role": "user", "content": "too late"})
        assert manager.get_session("s") is None
        assert self.listed(other, "ada") == []

    def test_appends_of_two_stores_by_turns_are_all_stored(self, manager: Any, other: Any, clock: Any) -> None:
        """Two stores append and save in turns. Each message is stored once, in the order of the calls."""
        manager.create_session("ada", session_id="s")
        expected = []
        for n in range(60):
            through = (manager, manager, other)[n % 3]
            count = (1, 1, 2, 1, 40)[n % 5] if n % 7 else 1
            added = [f"{n}/{part}" for part in range(count)]
            clock.advance(seconds=n % 2)
            if n % 11 == 10:
                session = through.get_session("s")
                for each in added:
                    session.add_message("user", each)
                through.save(session)
            else:
                through.append("s", *({"role": "user", "content": each} for each in added))
            expected += added

        assert contents(manager.get_session("s")) == contents(other.get_session("s")) == expected
        assert self.listed(other, "ada")[0].message_count == len(expected)
        assert self.sound(other)

    def test_appends_to_many_sessions_by_turns_are_all_stored(self, manager: Any, other: Any) -> None:
        """Appends to many sessions in turns go to the right session each."""
        hostile = ["s", "S", "s/", "s ", "t", "session", "\ud800", "h\u00e9llo"]
        names = [each for each in hostile if self.takes_id(each)]
        for each in names:
            manager.create_session(each, session_id=each)
        for n in range(5):
            for each in names:
                manager.append(each, {"role": "user", "content": [each, n]})

        for each in names:
            assert contents(other.get_session(each)) == [[each, n] for n in range(5)]
        assert self.sound(other)

    def test_any_text_is_the_id_of_an_appended_message(self, manager: Any, other: Any) -> None:
        """A message of any id is stored once if it is appended twice, in one call or in two."""
        manager.create_session("ada", session_id="s")
        messages = [Message("user", f"of {n}", message_id=each) for n, each in enumerate(HOSTILE_IDS)]
        for each in messages:
            manager.append("s", each)
            manager.append("s", each)
        manager.append("s", *messages)
        other.append("s", *messages)

        assert list(other.get_session("s").messages) == messages

    def test_a_text_that_looks_like_an_id_is_none(self, manager: Any, other: Any) -> None:
        """The id of a new message may stand in another message's content, name or metadata."""
        manager.create_session("ada", session_id="s")
        messages = [
            Message("user", 'm1 "m1" \\"m1\\" "message_id":"m1"', message_id="m0"),
            Message("user", ["m1", {"message_id": "m1"}], {"m1": "m1"}, name="m1", message_id="m00"),
            Message("user", "", message_id="m1"),
            Message("user", "", message_id="m"),
            Message("user", "", message_id='"m1"'),
            Message("user", "", message_id='m1","content":"'),
        ]
        for each in messages:
            manager.append("s", each)

        assert list(other.get_session("s").messages) == messages

    def test_one_call_cannot_append_an_id_twice(self, manager: Any, known: Any) -> None:
        """Two different messages of one id in one call raise, and nothing is stored."""
        with pytest.raises(InvalidValueError):
            manager.append("s", Message("user", "a", message_id="m"), Message("user", "b", message_id="m"))

        assert contents(manager.get_session("s")) == known
