"""Tests of messages with caller-chosen ids: each is stored once."""

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, Message, Session, SessionConflictError
from pyai_sessions.testing.machines import NO_CHECKS
from pyai_sessions.testing.samples import contents, exported, fill
from pyai_sessions.testing.store.fixtures import StoreFixtures

_HOOK = {"role": "user", "content": "book it", "message_id": "tg-1"}


def _save(manager: Any, hook: Any, last: Any, act: Callable[[Any, Any], Any]) -> Any:
    session = manager.get_session("s", last=last)
    act(session, dict(hook))
    manager.save(session)
    return session


def _add(session: Session, hook: Any) -> None:
    session.add_message(hook.pop("role"), hook.pop("content"), **hook)


def _insert(session: Session, hook: Any) -> None:
    session.insert_message(session.messages[-1].message_id, hook.pop("role"), hook.pop("content"), **hook)


def _overwrite(manager: Any, hook: Any) -> None:
    session = manager.get_session("s", last=2)
    _add(session, dict(hook))
    manager.save(session, on_conflict="overwrite")


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "append": lambda m, hook: m.append("s", dict(hook)),
    "append beside others": lambda m, hook: m.append("s", {"role": "user", "content": "new"}, dict(hook)),
    "append of a Message": lambda m, hook: m.append("s", Message(**hook)),
    "append of a message of dict": lambda m, hook: m.append("s", Message.from_dict(Message(**hook).to_dict())),
    "add_message": lambda m, hook: _save(m, hook, None, _add),
    "add_message to a part": lambda m, hook: _save(m, hook, 2, _add),
    "insert_message": lambda m, hook: _save(m, hook, None, _insert),
    "insert_message into a part": lambda m, hook: _save(m, hook, 2, _insert),
    "save that overwrites": _overwrite,
}
"""Calls that store a message with a chosen id."""


def _ids(session: Any) -> list[str]:
    return [each.message_id for each in session.messages]


def _talk(manager: Any, count: int, start: int = 0) -> None:
    manager.append("s", *({"role": "user", "content": f"{n}"} for n in range(start, start + count)))


class Once(StoreFixtures):
    @pytest.mark.parametrize("distance", [0, 100])
    def test_a_message_of_a_chosen_id_is_stored_once(self, manager: Any, other: Any, clock: Any, distance: Any) -> None:
        """A message with a stored id is not stored again, by any call or store, however old the first is."""
        for name, store_again in CALLS.items():
            manager.delete("s")
            manager.create_session("ada", session_id="s")
            _talk(manager, 3)
            manager.append("s", _HOOK)
            _talk(manager, distance, 3)
            before = other.get_session("s")

            for through in (manager, other, manager):
                clock.advance(minutes=5)
                store_again(through, _HOOK)

            stored = other.get_session("s")
            assert _ids(stored)[: 4 + distance] == _ids(before), name
            assert [each for each in contents(stored) if each != "new"] == contents(before), name
            assert self.listed(other, "ada")[0].message_count == stored.message_count
            assert self.sound(other)

    @pytest.mark.parametrize("distance", [0, 100])
    def test_other_words_under_a_taken_id_are_refused(self, manager: Any, other: Any, distance: Any) -> None:
        """Different content under a stored id raises an error that names the id. Nothing is written."""
        manager.create_session("ada", session_id="s")
        _talk(manager, 3)
        manager.append("s", _HOOK)
        _talk(manager, distance, 3)
        before = other.get_session("s")

        for store_again in CALLS.values():
            for change in ({"content": "cancel it"}, {"role": "assistant"}, {"metadata": {"n": 2}}):
                with pytest.raises(InvalidValueError, match="'tg-1' is taken by another message") as caught:
                    store_again(manager, _HOOK | change)

                assert caught.value.path == "message_id"
                assert "cancel" not in str(caught.value)
        after = other.get_session("s")
        assert (after, after.revision) == (before, before.revision)

    def test_a_refused_message_stays_in_hand(self, manager: Any, other: Any) -> None:
        """A refused message stays in the loaded copy. Without it, the copy can be saved."""
        manager.create_session("ada", session_id="s")
        manager.append("s", _HOOK)
        _talk(manager, 100)
        session = manager.get_session("s", last=2)
        _add(session, {"role": "user", "content": "later"})
        try:
            _add(session, _HOOK | {"content": "cancel it"})
            with pytest.raises(InvalidValueError):
                manager.save(session)
            assert contents(session)[-2:] == ["later", "cancel it"]
            session.pop()
        except InvalidValueError:
            pass  # a store that loads all messages refuses at once

        manager.save(session)

        assert contents(other.get_session("s"))[-2:] == ["99", "later"]

    def test_what_a_part_does_not_show_is_found_when_the_rest_is_loaded(self, manager: Any, other: Any) -> None:
        """`load_history` checks earlier messages against chosen ids that were added before."""
        manager.create_session("ada", session_id="s")
        manager.append("s", _HOOK)
        _talk(manager, 100)
        session = manager.get_session("s", last=2)
        _add(session, dict(_HOOK))
        manager.load_history(session)

        assert _ids(session).count("tg-1") == 1
        manager.save(session)
        assert contents(other.get_session("s")) == ["book it", *map(str, range(100))]

    def test_an_id_is_free_again_when_its_message_is_gone(self, manager: Any, other: Any) -> None:
        """After a message is removed, rewound or cleared, its id can be used again."""
        manager.create_session("ada", session_id="s")
        _talk(manager, 40)
        manager.append("s", _HOOK)
        _talk(manager, 40)
        manager.append("s", _HOOK)
        for words in ("again", "and again"):
            session = other.get_session("s")
            session.remove_message("tg-1")
            other.save(session)
            _talk(manager, 40)

            manager.append("s", _HOOK | {"content": words})

            assert contents(other.get_session("s"))[-1] == words
        session = other.get_session("s")
        session.clear_messages()
        other.save(session)
        manager.append("s", _HOOK)
        manager.append("s", _HOOK)
        assert contents(other.get_session("s")) == ["book it"]
        manager.delete("s")
        manager.create_session("ada", session_id="s")
        manager.append("s", _HOOK)
        manager.append("s", _HOOK)
        assert contents(other.get_session("s")) == ["book it"]
        assert self.sound(other)

    def test_forks_and_branches_know_their_messages(self, manager: Any, other: Any) -> None:
        """A fork and a branch know the ids of the messages that they share or kept."""
        manager.create_session("ada", session_id="s")
        _talk(manager, 40)
        manager.append("s", _HOOK)
        _talk(manager, 40)
        manager.fork("s", new_id="fork")
        manager.fork("s", at=20, new_id="before")
        for name, count in (("fork", 81), ("before", 21), ("s", 81)):
            manager.append(name, _HOOK)
            assert other.get_session(name).message_count == count
        session = manager.get_session("s")
        branch = session.rewind(41)
        manager.save(session)
        for _ in range(2):
            manager.append("s", _HOOK)
            assert other.get_session("s").message_count == 41
        manager.switch("s", branch)
        manager.append("s", _HOOK)
        assert other.get_session("s").message_count == 81
        assert self.sound(other)

    @pytest.mark.parametrize("distance", [0, 40])
    @pytest.mark.parametrize("last", [None, 2])
    def test_a_stale_copy_with_the_same_message_is_merged_once(
        self, manager: Any, other: Any, distance: Any, last: Any
    ) -> None:
        """If two stale copies add the same message, it is stored once, and both saves succeed."""
        manager.create_session("ada", session_id="s")
        _talk(manager, 70)
        mine = manager.get_session("s", last=last)
        other.append("s", _HOOK)
        _talk(other, distance, 70)

        _add(mine, dict(_HOOK))
        mine.add_message("assistant", "booked")
        manager.save(mine)

        stored = other.get_session("s")
        assert _ids(stored).count("tg-1") == 1
        assert contents(stored) == [*map(str, range(70)), "book it", *map(str, range(70, 70 + distance)), "booked"]

    @pytest.mark.parametrize("distance", [0, 40])
    @pytest.mark.parametrize("last", [None, 2])
    def test_a_stale_copy_with_other_words_conflicts(self, manager: Any, other: Any, distance: Any, last: Any) -> None:
        """If two stale copies add different content under one id, the second save raises and changes nothing."""
        manager.create_session("ada", session_id="s")
        _talk(manager, 70)
        mine = manager.get_session("s", last=last)
        other.append("s", _HOOK)
        _talk(other, distance, 70)
        before = other.get_session("s")

        _add(mine, _HOOK | {"content": "cancel it"})
        with pytest.raises(SessionConflictError, match="'tg-1'"):
            manager.save(mine)

        assert contents(mine)[-1] == "cancel it"
        assert other.get_session("s") == before

    def test_a_message_given_again_is_stored_once(self, manager: Any, other: Any) -> None:
        """A message object and its copies count as one message, even without a chosen id."""
        manager.create_session("ada", session_id="s")
        message = Message("user", "one")
        copies = copy.copy(message), copy.deepcopy(message), dataclasses.replace(message)
        manager.append("s", message)
        _talk(manager, 70)
        for again in (message, *copies):
            for through in (manager, other):
                through.append("s", again)
        session = other.get_session("s")

        assert contents(session) == ["one", *map(str, range(70))]
        other.append("s", *session.messages)
        assert other.get_session("s") == session

    def test_what_was_exported_is_imported(self, manager: Any, other: Any) -> None:
        """A repeated delivery does not keep the session from being imported or read from JSON."""
        manager.create_session("ada", session_id="s")
        for _ in range(3):
            manager.append("s", _HOOK)
            _talk(manager, 40)
        session = other.get_session("s")
        lines = exported(other, "ada")
        manager.delete("s")

        assert Session.from_json(session.to_json()) == session
        assert other.import_sessions(map(json.loads, map(json.dumps, lines))).inserted == 1
        assert _ids(other.get_session("s")) == _ids(session)

    def test_any_calls_store_each_message_once(self, manager: Any, other: Any) -> None:
        """After any sequence of deliveries by any call, the first content of each id is stored, once."""
        ids = st.sampled_from(["a", "b", "\u00e9", '"c'])
        deliveries = st.tuples(st.sampled_from(sorted(CALLS)), ids, st.booleans(), st.integers(0, 40))

        @settings(max_examples=12, deadline=None, database=None, suppress_health_check=NO_CHECKS)
        @given(st.lists(deliveries, min_size=2, max_size=6))
        def check(chosen: Any) -> None:
            fill(session := manager.get_or_create_session("s", "ada"), 3)
            manager.save(session)
            model: dict[str, str] = {}
            for n, (call, message_id, words, count) in enumerate(chosen):
                content = f"{message_id} {words}"
                hook = {"role": "user", "content": content, "message_id": message_id}
                if model.setdefault(message_id, content) == content:
                    CALLS[call]((manager, other)[n % 2], hook)
                else:
                    with pytest.raises(InvalidValueError):
                        CALLS[call]((manager, other)[n % 2], hook)
                _talk(manager, count)
            stored = other.get_session("s")
            found = [each.message_id for each in stored.messages]
            assert len(set(found)) == len(found)
            assert {each.message_id: each.content for each in stored.messages if each.message_id in model} == model
            manager.delete("s")

        check()
