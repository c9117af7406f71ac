"""What is refused, and what ids are made of."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError
from tests.clock import NOON
from tests.contract.store.base import StoreFixtures, all_pages, fill, ids


class Values(StoreFixtures):
    # What cannot be stored -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("value", "named"),
        [
            ({1, 2}, "cursor"),
            ({"deep": [0, {"er": object()}]}, "er"),
            (b"bytes", "cursor"),
            (float("nan"), "cursor"),
            ([float("inf")], "0"),
            ({1: "a number as a key"}, "cursor"),
            (NOON, "cursor"),
        ],
        ids=["set", "deep", "bytes", "nan", "infinity", "number as a key", "datetime"],
    )
    @pytest.mark.parametrize("part", ["state", "metadata"])
    def test_what_json_cannot_hold_is_refused_before_anything_is_written(self, manager, raw, part, value, named):
        """The error names the path to the value; the stored session is as it was, and the save works without it."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 40)
        before = {key: raw[key] for key in self.ours(raw)}
        getattr(session, part)["cursor"] = value

        with pytest.raises(InvalidValueError) as caught:
            manager.save(session)

        assert caught.value.path.startswith(f"{part}[")
        assert named in caught.value.path
        assert {key: raw[key] for key in self.ours(raw)} == before

        del getattr(session, part)["cursor"]
        manager.save(session)
        assert manager.get_session("s").message_count == 40

    @pytest.mark.parametrize("bad", ["", "x" * 1025, "\u00e9" * 513, 7, None, b"s"])
    def test_what_cannot_be_an_id_is_refused(self, manager, bad):
        """An id is text of 1 to 1,024 bytes, at every door."""
        for act in (
            lambda: manager.get_session(bad),
            lambda: manager.delete(bad),
            lambda: manager.append(bad, {"role": "user", "content": "x"}),
            lambda: manager.archive(bad),
            lambda: manager.get_sessions_for_user(bad),
            lambda: manager.delete_user(bad),
        ):
            with pytest.raises(InvalidValueError):
                act()

        if bad is not None:
            for act in (lambda: manager.create_session(session_id=bad), lambda: manager.create_session(bad)):
                with pytest.raises(InvalidValueError):
                    act()

        assert manager.count(status=None) == 0

    def test_options_out_of_range_are_refused(self, manager):
        """The error says which argument it was."""
        session = manager.create_session("ada", session_id="s")

        for name, act in (
            ("last", lambda: manager.get_session("s", last=-1)),
            ("limit", lambda: manager.get_sessions_for_user("ada", limit=-1)),
            ("limit", lambda: manager.list_sessions(limit=1.5)),
            ("before", lambda: manager.get_sessions_for_user("ada", before=NOON.replace(tzinfo=None))),
            ("cursor", lambda: manager.list_sessions(cursor="nonsense")),
            ("status", lambda: manager.list_sessions(status="gone")),
            ("days", lambda: manager.archive_inactive(days=-1)),
            ("on_conflict", lambda: manager.save(session, on_conflict="ignore")),
            ("session", lambda: manager.save({"session_id": "s"})),
            ("messages", lambda: manager.append("s", "Hello!")),
            ("messages", lambda: manager.append("s", {"content": "no role"})),
            ("messages", lambda: manager.append("s", {"role": "user", "text": "unknown field"})),
        ):
            with pytest.raises(InvalidValueError) as caught:
                act()

            assert caught.value.path.startswith(name)

        assert manager.get_session("s") == session

    # Ids -------------------------------------------------------------------------------------------------------------

    def test_any_text_is_a_session_id(self, manager, other, raw):
        """Sessions of hostile ids are stored, listed, changed and deleted under themselves, with no foreign key."""
        hostile = self.hostile_ids
        for session_id in hostile:
            session = manager.create_session("ada", session_id=session_id, state={"id": session_id})
            fill(session, 33)
            manager.save(session)

        assert sorted(ids(other.get_sessions_for_user("ada"))) == sorted(hostile)
        assert sorted(all_pages(manager, limit=7)) == sorted(hostile)
        assert sorted(raw) == self.ours(raw)
        assert len(raw_heads := [key for key in raw if key.startswith("session/")]) == len(hostile)
        assert all("/" not in key.removeprefix("session/") for key in raw_heads)
        for n, session_id in enumerate(hostile, 1):
            session = manager.get_session(session_id)
            assert (session.session_id, session.state) == (session_id, {"id": session_id})
            assert session.message_count == 33
            assert manager.delete(session_id)
            assert manager.count("ada") == len(hostile) - n
        assert self.ours(raw) == []

    def test_any_text_is_a_user_id(self, manager, other):
        """Users of hostile ids have their own sessions, and no one else's."""
        hostile = self.hostile_ids
        for n, user_id in enumerate(hostile):
            manager.create_session(user_id, session_id=f"s{n}")

        for n, user_id in enumerate(hostile):
            assert [(each.session_id, each.user_id) for each in other.get_sessions_for_user(user_id)] == [
                (f"s{n}", user_id)
            ]
            assert manager.count(user_id) == 1
        assert manager.delete_user("*") == 1
        assert manager.count() == len(hostile) - 1
        assert manager.verify()

    def test_no_two_ids_are_one_session(self, manager):
        """Whatever Unicode ids are made of, each names its own session."""

        @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.sets(st.text(st.characters(), min_size=1, max_size=12), min_size=2, max_size=4))
        def check(chosen):
            for each in chosen:
                manager.create_session(each, session_id=each, state={"id": each})

            assert {each: manager.get_session(each).state for each in chosen} == {each: {"id": each} for each in chosen}
            assert {each: ids(manager.list_sessions(each)) for each in chosen} == {each: [each] for each in chosen}
            assert manager.clear_all() == len(chosen)

        check()
