"""Tests of importing documents in batches."""

from typing import Any

import pytest

from pyai_sessions import InvalidValueError, SessionStatus
from pyai_sessions.testing.documents.fixtures import DocumentFixtures
from pyai_sessions.testing.samples import (
    NO_SESSIONS,
    all_pages,
    contents,
    fill,
    hand_made,
    ids,
    with_a_set_in_its_state,
)


class ImportsOfDocuments(DocumentFixtures):
    """What batches of an import store, and what they leave out."""

    def test_imported_sessions_go_on(self, manager: Any, other: Any, source: Any) -> None:
        """Imported sessions can be saved, appended to, loaded in part, rewound, archived and deleted."""
        manager.import_sessions(source.get_sessions_for_user("ada", include_archived=True))

        manager.append("long", {"role": "user", "content": "appended"})
        part = other.get_session("long", last=2)
        assert contents(part) == ["message 149", "appended"]
        fill(part, 40, 1000)
        other.save(part)
        assert manager.get_session("long").message_count == 191
        whole = manager.get_session("long")
        whole.rewind("half")
        manager.save(whole)
        assert contents(other.get_session("long")) == [f"message {n}" for n in range(75)]
        manager.restore("archived")
        manager.archive("short")
        assert ids(other.list_sessions(status=SessionStatus.ARCHIVED)) == ["short"]
        assert manager.delete("long")
        assert other.verify().problems == []

    def test_an_import_may_be_repeated(self, manager: Any, other: Any, raw: Any, source: Any) -> None:
        """A repeated import stores nothing, and leaves sessions that have changed since."""
        old = source.get_sessions_for_user("ada", include_archived=True)
        manager.import_sessions(old)
        manager.append("short", {"role": "user", "content": "since"})
        before = {key: raw[key] for key in raw}

        assert manager.import_sessions(old).inserted == 0
        assert other.import_sessions(each.to_dict() for each in old).inserted == 0

        assert {key: raw[key] for key in raw} == before
        assert other.verify().problems == []

    def test_an_import_reads_a_generator_as_it_goes(self, manager: Any, other: Any) -> Any:
        """An import holds at most about 500 sessions of a generator at a time, and reports its progress."""
        taken, told = 0, []
        manager.create_session("bob", session_id="s7")

        def sessions() -> Any:
            nonlocal taken
            for n in range(1100):
                taken += 1
                yield hand_made(f"s{n}")

        def progress(done: Any) -> None:
            told.append(done)
            assert taken - done <= 1
            assert other.count(status=None) == done

        assert manager.import_sessions(sessions(), progress=progress).inserted == 1099

        steps = [done - before for before, done in zip([0, *told], told, strict=False)]
        assert told[-1] == 1100
        assert all(0 < each <= 500 for each in steps)
        assert len(all_pages(other, "ada", limit=300)) == len(set(all_pages(other, limit=700))) - 1 == 1099

    def test_what_is_no_session_is_named_and_those_before_it_are_imported(self, manager: Any) -> None:
        """The error gives the number of the invalid session. With `skip_invalid` the report gives it."""
        for kind, bad in NO_SESSIONS.items():
            a, b, c = (f"{kind}/{each}" for each in "abc")
            told: list[int] = []

            with pytest.raises(InvalidValueError) as caught:
                manager.import_sessions([hand_made(a), hand_made(b), bad, hand_made(c)], progress=told.append)

            assert caught.value.path.partition(".")[0] in ("sessions[2]", "line 3"), kind
            assert list(manager.get_sessions([a, b, c])) == [a, b], kind
            assert told == [2], kind
            report = manager.import_sessions([hand_made(b), bad, hand_made(c)], skip_invalid=True)
            assert (report.inserted, report.invalid) == (1, 1), kind
            assert report.problems[0].startswith(("sessions[1]", "line 2")), kind
        assert manager.count(status=None) == 3 * len(NO_SESSIONS)

    def test_an_error_late_in_an_import_leaves_what_was_stored(self, manager: Any, other: Any) -> None:
        """After an error, earlier batches stay stored. A repeated import goes on from there."""
        given = [hand_made(f"s{n}") for n in range(700)]
        told: list[int] = []

        with pytest.raises(InvalidValueError) as caught:
            manager.import_sessions([*given, with_a_set_in_its_state()], progress=told.append)

        assert caught.value.path.partition(".")[0] == "sessions[700]"
        assert told[-1] == other.count() == 700
        assert manager.import_sessions(given).identical == 700
        assert other.verify().problems == []

    @pytest.mark.parametrize("error", [ValueError, KeyError, TypeError, ConnectionError])
    def test_an_error_of_the_generator_comes_as_it_is(self, manager: Any, error: Any) -> Any:
        """An exception of the caller's generator is passed on unchanged. Sessions before it are stored."""

        def sessions() -> Any:
            yield hand_made("a")
            raise error("the old database is down")

        with pytest.raises(error, match="the old database is down") as caught:
            manager.import_sessions(sessions())

        assert type(caught.value) is error
        assert manager.count() == 1
        assert manager.import_sessions([hand_made("a")]).identical == 1
