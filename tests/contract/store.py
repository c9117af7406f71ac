"""The contract of a store of sessions: all that SessionManager promises, whatever the sessions lie in.

A store's own test subclasses `StoreContract` and names its storage in the fixture `store`. Where the storage outlives
the store it adds `reopen`; where a mapping's items are not the documents' text it adds `raw`.
"""

import json
import threading
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyai_sessions import (
    InvalidDocumentError,
    InvalidValueError,
    KVSessionStore,
    Message,
    Session,
    SessionArchivedError,
    SessionConflictError,
    SessionDeletedError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
    SessionStatus,
)
from tests.clock import NOON, StoppedClock

HOSTILE_IDS = [
    "/",
    "//",
    "a/b",
    "a/b/c",
    "../../etc/passwd",
    ".",
    "..",
    "...",
    ":",
    "{a}",
    "}{",
    "*",
    "a*",
    "?",
    "[a]",
    "^",
    "%",
    "%2F",
    "%252F",
    "a%2Fb",
    "\\",
    "\\n",
    "a\nb",
    "\r\n",
    "\t",
    " ",
    " a ",
    "a",
    "A",
    "a\0",
    "\0",
    "a\0b",
    "'",
    '"',
    "'; DROP TABLE sessions; --",
    "$(id)",
    "user",
    "active",
    "archived",
    "expiry",
    "session",
    "session/a",
    "messages/a/b/0",
    "unreadable/a",
    "h\u00e9llo",
    "he\u0301llo",
    "\u202eolleh",
    "\U0001f600",
    "\U0001f469\u200d\U0001f4bb",
    "\ud800",
    "\udfff",
    "a\ud83d",
    "\uffff",
    "0",
    "-1",
    "None",
    "null",
]
RICH = (
    {"role": "system", "content": "You are helpful."},
    {"role": "user", "content": "", "name": "ada"},
    {"role": "user", "content": "NUL \0, newline \r\n, emoji \U0001f600, lone \ud83d, right to left \u202e"},
    {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image", "url": "data:,"}]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "function": {"arguments": "{}"}}]},
    {"role": "tool", "content": {"result": [1, 2.5, True, None, {"deep": [[]]}]}, "tool_call_id": "call_1"},
    {"role": "assistant", "content": "Done.", "metadata": {"tokens": 12, "tags": ["a", "b"], "n\u00fcl\0": None}},
)


def fill(session, count, start=0):
    """Add *count* messages, numbered from *start*."""
    for n in range(start, start + count):
        session.add_message("user" if n % 2 == 0 else "assistant", f"message {n}", message_id=f"m{n}")


def contents(session):
    return [each.content for each in session.messages]


def ids(sessions):
    return [each.session_id for each in sessions]


def all_pages(manager, user_id=None, **options):
    """Return the ids of a list, read page by page."""
    found, cursor = [], None
    while True:
        page = manager.list_sessions(user_id, cursor=cursor, **options)
        found += ids(page)
        cursor = page.next_cursor
        if cursor is None:
            return found


class StoreContract:
    """What a SessionManager does. Subclass it and give it a fixture `store`: what SessionManager takes, still empty."""

    longest_id = 1024
    """In bytes; less where a storage's own keys have a limit, as file names have."""

    @pytest.fixture
    def store(self):
        msg = "a subclass of StoreContract has a fixture `store` that gives an empty store"
        raise NotImplementedError(msg)

    @pytest.fixture
    def clock(self):
        return StoppedClock()

    @pytest.fixture
    def manager(self, store, clock):
        return SessionManager(store, clock=clock)

    @pytest.fixture
    def reopen(self, manager):
        """A function that gives a second store over the same storage."""
        return lambda: KVSessionStore(manager.store.mapping)

    @pytest.fixture
    def other(self, reopen, clock):
        """A second manager over the same storage."""
        return SessionManager(reopen(), clock=clock)

    @pytest.fixture
    def raw(self, manager):
        """The stored documents, as a mapping of text, past the store."""
        return manager.store.mapping

    @staticmethod
    def ours(raw):
        """Return the keys of all documents."""
        return sorted(key for key in raw if key.startswith(("session/", "messages/")))

    # Creating and reading ----------------------------------------------------------------------------------------

    def test_a_new_store_is_empty(self, manager, raw):
        """The fixture gives an empty store, or the other tests would prove nothing."""
        assert manager.count(status=None) == 0
        assert manager.list_sessions(status=None) == []
        assert self.ours(raw) == []

    def test_a_created_session_is_stored_at_once(self, manager, clock):
        """`create_session` needs no save."""
        session = manager.create_session("ada", session_id="s", metadata={"channel": "web"}, state={"n": 1})

        stored = manager.get_session("s")

        assert stored == session
        assert (stored.user_id, stored.metadata, stored.state) == ("ada", {"channel": "web"}, {"n": 1})
        assert stored.created_at == stored.updated_at == clock.now
        assert stored.status is SessionStatus.ACTIVE
        assert stored.message_count == 0

    def test_sessions_without_an_id_get_different_ones(self, manager):
        """An id is made up where none is given."""
        made = {manager.create_session().session_id for _ in range(10)}

        assert len(made) == 10

    def test_a_taken_id_is_refused_and_what_is_stored_stays(self, manager):
        """Creating never replaces."""
        first = manager.create_session("ada", session_id="s", state={"n": 1})

        with pytest.raises(SessionExistsError) as caught:
            manager.create_session("bob", session_id="s")

        assert caught.value.session_id == "s"
        assert manager.get_session("s") == first

    def test_a_session_made_by_hand_is_stored_by_save(self, manager):
        """`Session(...)` and `save` do what `create_session` does, the id's check included."""
        manager.save(Session(session_id="s", user_id="ada", messages=[Message("user", "Hello!")]))

        with pytest.raises(SessionExistsError):
            manager.save(Session(session_id="s", user_id="ada"))

        assert contents(manager.get_session("s")) == ["Hello!"]

    def test_an_absent_session_is_none(self, manager):
        """Reading what is not there gives None, beside others too."""
        manager.create_session(session_id="s")

        assert manager.get_session("other") is None
        assert manager.get_session("S") is None
        assert manager.get_session("s/") is None

    def test_get_or_create_creates_once(self, manager):
        """The second call gets what the first made, whatever else it says."""
        made = manager.get_or_create_session("s", "ada", metadata={"a": 1}, state={"b": 2})
        got = manager.get_or_create_session("s", "bob", metadata={"a": 9})

        assert got == made
        assert (got.user_id, got.metadata, got.state) == ("ada", {"a": 1}, {"b": 2})

    def test_all_fields_are_read_as_they_were_saved(self, manager, other, clock):
        """Messages, state and metadata come back equal: tool calls, any Unicode, and times to the microsecond."""
        clock.pass_(microseconds=1)
        session = manager.create_session("ada", metadata={"title": "\U0001f600", "n": [1, {"a": None}]})
        for fields in RICH:
            clock.pass_(microseconds=7)
            session.add_message(**fields)
        session.set_state("nested", {"a": [1, 2.5, "x", None, True, {"\ud800": "\ud800"}], "": {}})
        session.set_state("big", 2**70)
        session.checkpoint("here")
        manager.save(session)

        stored = other.get_session(session.session_id)

        assert stored == session
        assert stored.to_dict() == session.to_dict()
        assert [each.timestamp for each in stored.messages] == [
            NOON + timedelta(microseconds=1 + 7 * n) for n in range(1, len(RICH) + 1)
        ]

    def test_a_second_save_replaces_the_first(self, manager):
        """What is read is what was saved last, each message once."""
        session = manager.create_session("ada", state={"keep": 1, "drop": 2})
        session.add_message("user", "one")
        manager.save(session)
        session.add_message("assistant", "two")
        session.set_state("keep", 3)
        session.delete_state("drop")
        session.metadata["title"] = "Counting"
        manager.save(session)
        manager.save(session)

        stored = manager.get_session(session.session_id)

        assert contents(stored) == ["one", "two"]
        assert (stored.state, stored.metadata) == ({"keep": 3}, {"title": "Counting"})

    def test_a_save_gives_a_new_revision(self, manager):
        """The object that was saved knows its revision, and it is the stored one."""
        session = manager.create_session("ada")
        first = session.revision
        session.add_message("user", "one")
        manager.save(session)

        assert first is not None
        assert session.revision not in (None, first)
        assert manager.get_session(session.session_id).revision == session.revision

    def test_reading_does_not_write(self, manager, raw):
        """No read, list or count changes a document."""
        session = manager.create_session("ada")
        fill(session, 100)
        manager.save(session)
        before = {key: raw[key] for key in self.ours(raw)}

        manager.get_session(session.session_id)
        manager.get_session(session.session_id, last=5)
        manager.get_sessions_for_user("ada")
        manager.list_sessions()
        manager.verify()

        assert {key: raw[key] for key in self.ours(raw)} == before

    def test_every_document_is_json_text_that_names_its_format(self, manager, raw):
        """A head is JSON that `json.loads` reads; of a short conversation it is the whole session."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 3)
        manager.save(session)

        head = json.loads(raw["session/s"])

        assert self.ours(raw) == ["session/s"]
        assert head["format"] == 1
        assert [each["content"] for each in head["messages"]] == ["message 0", "message 1", "message 2"]
        assert Session.from_json(raw["session/s"]) == session

    def test_a_second_store_sees_each_change_at_once(self, manager, other):
        """Two stores over one storage are one store."""
        assert other.list_sessions() == []
        session = manager.create_session("ada", session_id="s")
        assert (other.count(), ids(other.list_sessions("ada")), ids(other.get_sessions_for_user("ada"))) == (
            1,
            ["s"],
            ["s"],
        )

        session.add_message("user", "one")
        manager.save(session)
        assert contents(other.get_session("s")) == ["one"]

        other.append("s", {"role": "assistant", "content": "two"})
        assert contents(manager.get_session("s")) == ["one", "two"]
        assert manager.list_sessions("ada")[0].message_count == 2

        other.archive("s")
        assert (manager.count("ada"), manager.count("ada", status=SessionStatus.ARCHIVED)) == (0, 1)

        other.restore("s")
        assert ids(manager.list_sessions()) == ["s"]

        manager.delete("s")
        assert other.get_session("s") is None
        assert (other.count(status=None), other.get_sessions_for_user("ada", include_archived=True)) == (0, [])

    # What cannot be stored ---------------------------------------------------------------------------------------

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

    # Ids ---------------------------------------------------------------------------------------------------------

    @property
    def hostile_ids(self):
        return [*HOSTILE_IDS, "k" * self.longest_id, "k" * (self.longest_id - 1) + "j"]

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

    # Long conversations ------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 65, 500])
    def test_a_conversation_of_any_length_is_read_as_it_was_saved(self, manager, other, count):
        """One page, many pages, and the lengths at which a page is full."""
        session = manager.create_session("ada")
        fill(session, count)
        manager.save(session)

        stored = other.get_session(session.session_id)

        assert stored == session
        assert contents(stored) == [f"message {n}" for n in range(count)]
        assert manager.list_sessions()[0].message_count == count

    def test_a_conversation_saved_turn_by_turn_is_whole(self, manager, other, raw):
        """Each save adds its turn; no document grows with the conversation, and none is left over."""
        session = manager.create_session("ada")
        for n in range(0, 250, 2):
            fill(session, 2, n)
            manager.save(session)
            if n % 50 == 0:
                session = manager.get_session(session.session_id)

        assert contents(other.get_session(session.session_id)) == [f"message {n}" for n in range(250)]
        assert max(len(raw[key]) for key in self.ours(raw)) < 16_000
        assert other.verify()

    def test_big_messages_are_kept_whole(self, manager, other):
        """A message of a megabyte, among small ones."""
        session = manager.create_session("ada")
        fill(session, 3)
        session.add_message("tool", "h\u00e9llo \U0001f600 " * 100_000)
        fill(session, 3, 3)
        for _ in range(5):
            session.add_message("tool", "x" * 40_000)
        manager.save(session)

        assert other.get_session(session.session_id) == session

    @pytest.mark.parametrize("count", [0, 5, 33, 100])
    @pytest.mark.parametrize("last", [0, 1, 5, 33, 64, 1000])
    def test_last_loads_the_newest_messages_alone(self, manager, count, last):
        """`last` gives so many of the newest, or all there are; the count is that of the conversation."""
        session = manager.create_session("ada", session_id="s", state={"n": 1})
        fill(session, count)
        manager.save(session)

        part = manager.get_session("s", last=last)

        assert contents(part) == [f"message {n}" for n in range(max(0, count - last), count)]
        assert part.message_count == count
        assert part.state == {"n": 1}

    @pytest.mark.parametrize("last", [0, 3, 40])
    def test_a_part_that_was_loaded_can_be_continued(self, manager, other, last):
        """Saving it keeps the messages that were not loaded, and `load_history` loads them."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 100)
        manager.save(session)

        part = manager.get_session("s", last=last)
        fill(part, 70, 100)
        manager.save(part)

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(170)]
        manager.load_history(part)
        assert contents(part) == [f"message {n}" for n in range(170)]
        assert part == other.get_session("s")

    def test_a_part_that_went_stale_is_merged(self, manager, other):
        """So is a part that another writer went on from meanwhile."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 100)
        manager.save(session)
        part = manager.get_session("s", last=5)
        theirs = other.get_session("s")
        fill(theirs, 50, 100)
        other.save(theirs)

        fill(part, 50, 150)
        manager.save(part)

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(200)]

    # Appending ---------------------------------------------------------------------------------------------------

    def test_append_adds_messages_in_order(self, manager, other, clock):
        """Messages, and dicts of their fields, go to the end; a dict without a timestamp gets the clock's."""
        manager.create_session("ada", session_id="s")
        clock.pass_(minutes=5)
        manager.append("s", Message("user", "one"), {"role": "assistant", "content": "two"})
        manager.append("s", {"role": "user", "content": "three", "metadata": {"a": 1}})

        stored = other.get_session("s")

        assert contents(stored) == ["one", "two", "three"]
        assert stored.messages[1].timestamp == clock.now
        assert stored.updated_at >= clock.now

    def test_append_one_by_one_makes_pages(self, manager, other):
        """Two hundred appends are two hundred messages."""
        manager.create_session("ada", session_id="s")
        for n in range(120):
            manager.append("s", {"role": "user", "content": f"message {n}"})

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(120)]
        assert other.verify()

    def test_appending_a_message_twice_stores_it_once(self, manager):
        """Its id says that it is the same: an append may be repeated."""
        manager.create_session("ada", session_id="s")
        message = Message("user", "one")
        manager.append("s", message)
        manager.append("s", message, Message("assistant", "two"))

        assert contents(manager.get_session("s")) == ["one", "two"]

    def test_appending_nothing_changes_nothing(self, manager):
        """No message, no write."""
        before = manager.create_session("ada", session_id="s").revision
        manager.append("s")

        assert manager.get_session("s").revision == before

    def test_appending_to_an_absent_session_raises(self, manager):
        """It is not created on the way."""
        with pytest.raises(SessionNotFoundError) as caught:
            manager.append("s", {"role": "user", "content": "x"})

        assert caught.value.session_id == "s"
        assert manager.get_session("s") is None

    def test_a_refused_message_leaves_the_others_of_its_call_unwritten(self, manager):
        """An append is all or nothing."""
        manager.create_session("ada", session_id="s")

        with pytest.raises(InvalidValueError):
            manager.append("s", {"role": "user", "content": "fine"}, {"role": "user", "content": {1, 2}})

        assert manager.get_session("s").message_count == 0

    def test_appends_of_threads_all_survive(self, manager, other):
        """Each message once, and each thread's in its order."""
        manager.create_session("ada", session_id="s")
        failures = []

        def work(name, through):
            try:
                for n in range(10):
                    through.append("s", {"role": name, "content": n})
            except Exception as err:  # noqa: BLE001 (a thread's error would be lost)
                failures.append(err)

        threads = [threading.Thread(target=work, args=(f"t{n}", (manager, other)[n % 2])) for n in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

        assert failures == []
        messages = manager.get_session("s").messages
        assert len(messages) == 40
        for n in range(4):
            assert [each.content for each in messages if each.role == f"t{n}"] == list(range(10))

    # Stale copies ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("stored", [0, 3, 31, 70])
    @pytest.mark.parametrize("added", [1, 40])
    def test_both_writers_messages_are_kept(self, manager, other, stored, added):
        """Theirs first, then ours; and the object that was saved has both."""
        session = manager.create_session("ada", session_id="s")
        fill(session, stored)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        fill(theirs, added, stored)
        other.save(theirs)

        fill(mine, added, stored + added)
        manager.save(mine)

        assert contents(mine) == [f"message {n}" for n in range(stored + 2 * added)]
        assert manager.get_session("s") == mine
        assert other.verify()

    def test_three_stale_copies_are_merged_one_after_the_other(self, manager):
        """However stale a copy is, its messages come after what is stored."""
        manager.create_session("ada", session_id="s")
        copies = [manager.get_session("s") for _ in range(3)]
        for name, copy in zip("abc", copies, strict=True):
            copy.add_message("user", name)
            manager.save(copy)

        assert contents(manager.get_session("s")) == ["a", "b", "c"]

    @pytest.mark.parametrize("part", ["state", "metadata"])
    def test_state_and_metadata_merge_key_by_key(self, manager, other, part):
        """Each writer's changes count; of a key that both changed, the later save's."""
        session = manager.create_session("ada", session_id="s")
        getattr(session, part).update(same=0, mine=0, theirs=0, both=0, i_drop=0, they_drop=0)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        getattr(theirs, part).update(theirs=2, both=2, they_add=2)
        del getattr(theirs, part)["they_drop"]
        other.save(theirs)

        getattr(mine, part).update(mine=1, both=1, i_add=1)
        del getattr(mine, part)["i_drop"]
        manager.save(mine)

        merged = {"same": 0, "mine": 1, "theirs": 2, "both": 1, "i_add": 1, "they_add": 2}
        assert getattr(mine, part) == merged
        assert getattr(other.get_session("s"), part) == merged

    def test_a_conflict_can_be_an_error(self, manager, other):
        """`on_conflict="error"` writes nothing over another writer's save, and says which revisions they are."""
        mine = manager.create_session("ada", session_id="s")
        theirs = other.get_session("s")
        theirs.add_message("user", "theirs")
        other.save(theirs)
        mine.add_message("user", "mine")

        with pytest.raises(SessionConflictError) as caught:
            manager.save(mine, on_conflict="error")

        assert (caught.value.session_id, caught.value.stored_revision) == ("s", theirs.revision)
        assert caught.value.base_revision == mine.revision
        assert contents(mine) == ["mine"]
        assert other.get_session("s") == theirs

    def test_a_fresh_copy_is_saved_in_every_mode(self, manager):
        """Where there is no conflict, `on_conflict` changes nothing."""
        session = manager.create_session("ada", session_id="s")
        for mode in ("merge", "error", "overwrite"):
            session.add_message("user", mode)
            manager.save(session, on_conflict=mode)

        assert contents(manager.get_session("s")) == ["merge", "error", "overwrite"]

    def test_a_conflict_can_be_overwritten(self, manager, other, raw):
        """`on_conflict="overwrite"` replaces what others stored, and leaves none of their pages."""
        mine = manager.create_session("ada", session_id="s")
        fill(mine, 50)
        manager.save(mine)
        theirs = other.get_session("s")
        fill(theirs, 100, 50)
        theirs.set_state("theirs", 1)
        other.save(theirs)

        mine.add_message("user", "mine")
        manager.save(mine, on_conflict="overwrite")

        assert contents(other.get_session("s")) == [*(f"message {n}" for n in range(50)), "mine"]
        assert other.get_session("s").state == {}
        assert manager.get_session("s") == mine
        assert other.verify()
        assert len(self.ours(raw)) <= 3

    def test_a_conflict_of_two_rewritten_histories_writes_nothing(self, manager, other):
        """Both sides stay as they are."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 40)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        theirs.replace_message("m39", content="theirs")
        other.save(theirs)
        mine.remove_message("m5")

        with pytest.raises(SessionConflictError):
            manager.save(mine)

        assert other.get_session("s") == theirs
        assert mine.message_count == 39
        assert other.verify()

    def test_messages_written_after_one_that_was_taken_back_conflict(self, manager, other):
        """An answer is not kept where its question was removed."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 3)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        theirs.add_message("assistant", "an answer to message 2")
        other.save(theirs)
        mine.pop()

        with pytest.raises(SessionConflictError):
            manager.save(mine)

        assert other.get_session("s") == theirs

    def test_an_edit_and_an_append_are_both_kept(self, manager, other):
        """Where the last message stands on both sides, an earlier one may change beside an append."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 40)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        theirs.add_message("assistant", "appended")
        other.save(theirs)

        mine.replace_message("m2", content="edited")
        manager.save(mine)

        expected = [f"message {n}" for n in range(40)] + ["appended"]
        expected[2] = "edited"
        assert contents(other.get_session("s")) == expected
        assert other.verify()

    # Rewritten history -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("count", [3, 40, 100])
    @pytest.mark.parametrize("at", [0, 0.5, 1])
    @pytest.mark.parametrize("act", ["remove", "replace"])
    def test_a_rewritten_message_is_read_as_it_was_rewritten(self, manager, other, count, at, act):
        """In the first page, between, in the tail; and no page of the former history is left."""
        session = manager.create_session("ada", session_id="s")
        fill(session, count)
        manager.save(session)
        n = round(at * (count - 1))
        if act == "remove":
            session.remove_message(f"m{n}")
        else:
            session.replace_message(f"m{n}", content="another", metadata={"edited": True})
        manager.save(session)

        stored = other.get_session("s")

        assert stored == session
        assert stored.message_count == count - (act == "remove")
        assert other.verify()

    @pytest.mark.parametrize("count", [1, 33, 100])
    @pytest.mark.parametrize("popped", [1, 20, 70])
    def test_popped_messages_are_gone(self, manager, other, count, popped):
        """`pop` takes back the newest, across pages, and the conversation goes on from there."""
        session = manager.create_session("ada", session_id="s")
        fill(session, count)
        manager.save(session)
        left = max(0, count - popped)
        for n in range(count - 1, left - 1, -1):
            assert session.pop().content == f"message {n}"
        manager.save(session)
        assert contents(other.get_session("s")) == [f"message {n}" for n in range(left)]

        fill(session, 40, 1000)
        manager.save(session)

        assert contents(other.get_session("s")) == [f"message {n}" for n in [*range(left), *range(1000, 1040)]]
        assert other.verify()

    @pytest.mark.parametrize("at", [0, 10, 70])
    def test_rewinding_returns_to_the_checkpoint(self, manager, other, at):
        """Messages and state are what they were, after a save and a load in between."""
        session = manager.create_session("ada", session_id="s", state={"step": 1})
        fill(session, at)
        session.checkpoint("before")
        manager.save(session)
        session.set_state("step", 2)
        fill(session, 60, at)
        manager.save(session)

        loaded = other.get_session("s")
        loaded.rewind("before")
        other.save(loaded)

        stored = manager.get_session("s")
        assert stored == loaded
        assert contents(stored) == [f"message {n}" for n in range(at)]
        assert stored.state == {"step": 1}
        assert other.verify()

    def test_a_cleared_conversation_is_empty_and_goes_on(self, manager, other, raw):
        """State and metadata stay, pages go."""
        session = manager.create_session("ada", session_id="s", state={"n": 1})
        fill(session, 100)
        manager.save(session)
        session.clear_messages()
        manager.save(session)
        assert contents(other.get_session("s")) == []
        assert self.ours(raw) == ["session/s"]

        fill(session, 40)
        manager.save(session)

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(40)]
        assert other.get_session("s").state == {"n": 1}

    # Deleting ----------------------------------------------------------------------------------------------------

    def test_deleting_leaves_nothing_of_a_session(self, manager, other, raw):
        """Head, pages and index entries go; the other sessions stay."""
        kept = manager.create_session("ada", session_id="kept")
        gone = manager.create_session("ada", session_id="gone")
        for each in (kept, gone):
            fill(each, 100)
            manager.save(each)

        assert manager.delete("gone") is True

        assert other.get_session("gone") is None
        assert ids(other.get_sessions_for_user("ada")) == ["kept"]
        assert other.count() == 1
        assert not [key for key in self.ours(raw) if "gone" in key]
        assert other.get_session("kept") == kept
        assert other.verify()

    def test_deleting_an_absent_session_returns_false(self, manager):
        """Deleting twice is no error."""
        manager.create_session(session_id="s")
        manager.delete("s")

        assert manager.delete("s") is False

    @pytest.mark.parametrize("mode", ["merge", "error", "overwrite"])
    def test_a_deleted_session_stays_deleted(self, manager, other, raw, mode):
        """Saving a copy of it raises, in every mode, and does not bring it back."""
        session = manager.create_session("ada", session_id="s")
        other.delete("s")
        session.add_message("user", "too late")

        with pytest.raises(SessionDeletedError) as caught:
            manager.save(session, on_conflict=mode)

        assert caught.value.session_id == "s"
        assert manager.get_session("s") is None
        assert self.ours(raw) == []
        with pytest.raises(SessionNotFoundError):
            manager.append("s", {"role": "user", "content": "x"})

    def test_a_copy_of_a_deleted_session_is_not_merged_into_its_successor(self, manager, other):
        """A session created anew under the id is another."""
        old = manager.create_session("ada", session_id="s")
        other.delete("s")
        new = other.create_session("bob", session_id="s")
        old.add_message("user", "of the old one")

        with pytest.raises(SessionDeletedError):
            manager.save(old)

        assert other.get_session("s") == new

    def test_deleting_a_user_leaves_the_others(self, manager, other):
        """All of a user's sessions go, archived ones too, and nobody else's."""
        for n in range(3):
            manager.create_session("ada", session_id=f"ada{n}")
        manager.archive("ada1")
        manager.create_session("bob", session_id="bob")
        manager.create_session(session_id="nobody")

        assert manager.delete_user("ada") == 3

        assert sorted(ids(other.list_sessions(status=None))) == ["bob", "nobody"]
        assert other.get_session("ada1") is None
        assert manager.delete_user("ada") == 0
        assert other.verify()

    def test_clearing_all_leaves_what_is_not_ours(self, manager, other, raw):
        """Sessions, archived ones too, and left-over pages go; keys of others stay."""
        foreign = {
            "other": "1",
            "session": "2",
            "session/": "3",
            "session/a/b": "4",
            "sessions/x": "5",
            "messages/x": "6",
            "messages/x/y/z": "7",
            "Session/x": "8",
        }
        for key, value in foreign.items():
            raw[key] = value
        raw["messages/gone/generation/0"] = "[]"
        for n in range(3):
            fill(session := manager.create_session("ada", session_id=f"s{n}"), 40)
            manager.save(session)
        manager.archive("s1")

        assert manager.clear_all() == 3

        assert {key: raw[key] for key in list(raw)} == foreign
        assert (other.count(status=None), other.list_sessions(status=None)) == (0, [])
        assert other.verify()
        assert manager.clear_all() == 0
        assert ids([manager.create_session("ada", session_id="s1")]) == ids(other.list_sessions())

    # Archiving ---------------------------------------------------------------------------------------------------

    def test_an_archived_session_is_left_out_of_lists_and_can_be_read(self, manager, other):
        """Unless archived ones are asked for."""
        manager.create_session("ada", session_id="kept")
        manager.create_session("ada", session_id="s")
        manager.archive("s")
        manager.archive("s")

        assert ids(other.get_sessions_for_user("ada")) == ["kept"]
        assert ids(other.list_sessions()) == ids(other.list_sessions("ada")) == ["kept"]
        assert sorted(ids(other.get_sessions_for_user("ada", include_archived=True))) == ["kept", "s"]
        assert sorted(ids(other.list_sessions("ada", status=None))) == ["kept", "s"]
        assert ids(other.list_sessions("ada", status=SessionStatus.ARCHIVED)) == ["s"]
        assert other.get_session("s").status is SessionStatus.ARCHIVED
        assert [other.count("ada", status=status) for status in (*SessionStatus, None)] == [1, 1, 2]

    def test_archiving_an_object_and_saving_it_archives(self, manager, other):
        """`session.archive()` counts once it is saved, with what was added before."""
        session = manager.create_session("ada", session_id="s")
        session.add_message("user", "good-bye")
        session.archive()
        manager.save(session)

        assert other.count("ada") == 0
        assert contents(other.get_session("s")) == ["good-bye"]
        with pytest.raises(SessionArchivedError):
            manager.save(session)

    def test_an_archived_session_refuses_changes(self, manager, other):
        """A copy loaded before, one loaded after, and an append: all raise, and nothing is written."""
        before = manager.create_session("ada", session_id="s")
        other.archive("s")
        after = manager.get_session("s")
        for copy in (before, after):
            copy.add_message("user", "too late")
            for mode in ("merge", "overwrite"):
                with pytest.raises(SessionArchivedError) as caught:
                    manager.save(copy, on_conflict=mode)
                assert caught.value.session_id == "s"
        with pytest.raises(SessionArchivedError):
            manager.append("s", {"role": "user", "content": "too late"})

        assert other.get_session("s").message_count == 0

    def test_a_restored_session_goes_on(self, manager, other):
        """It is listed again, and takes messages; a copy loaded while it was archived may be saved too."""
        manager.create_session("ada", session_id="s")
        manager.archive("s")
        copy = manager.get_session("s")
        other.restore("s")
        other.restore("s")
        assert ids(manager.get_sessions_for_user("ada")) == ["s"]

        copy.add_message("user", "again")
        manager.save(copy)
        manager.append("s", {"role": "assistant", "content": "welcome back"})

        stored = other.get_session("s")
        assert contents(stored) == ["again", "welcome back"]
        assert stored.status is SessionStatus.ACTIVE
        assert [other.count("ada", status=status) for status in (*SessionStatus, None)] == [1, 0, 1]

    def test_archiving_or_restoring_an_absent_session_raises(self, manager):
        """A wrong id does not pass for a done deed."""
        for act in (manager.archive, manager.restore):
            with pytest.raises(SessionNotFoundError):
                act("s")

    def test_inactive_sessions_are_archived(self, manager, other, clock):
        """Those that did not change for so many days, and no other; activity counts, not creation."""
        for name in ("oldest", "older", "revived", "recent"):
            manager.create_session("ada", session_id=name)
            clock.pass_(days=10)
        manager.append("revived", {"role": "user", "content": "back"})
        manager.create_session("ada", session_id="archived")
        manager.archive("archived")
        clock.pass_(days=15)

        assert manager.archive_inactive(days=30) == 2

        assert sorted(ids(other.list_sessions())) == ["recent", "revived"]
        assert sorted(ids(other.list_sessions(status=SessionStatus.ARCHIVED))) == ["archived", "older", "oldest"]
        assert manager.archive_inactive(days=30) == 0
        assert manager.archive_inactive(days=0.5) == 2
        assert other.count() == 0
        assert other.verify()

    # Lists -------------------------------------------------------------------------------------------------------

    @pytest.fixture
    def ten(self, manager, clock):
        """Ten sessions of ada, s0 the oldest, a minute apart; one of bob's and one of nobody's between."""
        for n in range(10):
            manager.create_session("ada", session_id=f"s{n}", metadata={"n": n})
            clock.pass_(minutes=1)
            if n == 5:
                manager.create_session("bob", session_id="bob's")
                manager.create_session(session_id="nobody's")
        return [f"s{n}" for n in range(9, -1, -1)]

    def test_a_users_sessions_come_latest_activity_first(self, manager, other, clock, ten):
        """A save moves a session to the front of its user's list."""
        assert ids(other.get_sessions_for_user("ada")) == ten
        assert ids(other.list_sessions("ada")) == ten

        session = manager.get_session("s4")
        session.add_message("user", "still here")
        manager.save(session)

        expected = ["s4", *(each for each in ten if each != "s4")]
        assert ids(other.get_sessions_for_user("ada")) == expected
        assert ids(other.list_sessions("ada")) == expected

    def test_lists_hold_whole_sessions_or_summaries(self, manager, other, ten):
        """`get_sessions_for_user` gives the sessions; `list_sessions` all but messages and state."""
        fill(session := manager.get_session("s9"), 50)
        manager.save(session)

        assert other.get_sessions_for_user("ada", limit=1) == [session]
        summary = other.list_sessions("ada", limit=1)[0]
        for name in ("session_id", "user_id", "metadata", "message_count", "status", "created_at", "updated_at"):
            assert getattr(summary, name) == getattr(session, name)

    def test_a_limit_cuts_a_list(self, manager, ten):
        """The newest so many; none, for 0; all, for more than there are."""
        for limit in (0, 1, 3, 10, 99, None):
            assert ids(manager.get_sessions_for_user("ada", limit=limit)) == ten[:limit]
            assert ids(manager.list_sessions("ada", limit=limit)) == ten[:limit]

    def test_before_leaves_out_later_activity(self, manager, ten):
        """Sessions last active before that time, that time left out."""
        time = manager.get_session("s6").updated_at

        assert ids(manager.get_sessions_for_user("ada", before=time)) == ten[4:]
        assert ids(manager.get_sessions_for_user("ada", before=time, limit=2)) == ten[4:6]
        assert manager.get_sessions_for_user("ada", before=NOON) == []

    def test_a_user_sees_only_their_own(self, manager, other, ten):
        """Those of no user are in the list of all."""
        assert ids(other.get_sessions_for_user("bob")) == ids(other.list_sessions("bob")) == ["bob's"]
        assert other.get_sessions_for_user("carol") == other.list_sessions("carol") == []
        assert sorted(ids(other.list_sessions())) == sorted([*ten, "bob's", "nobody's"])
        assert [other.count(each) for each in ("ada", "bob", "carol", None)] == [10, 1, 0, 12]

    def test_the_oldest_can_come_first(self, manager, ten):
        """The same list the other way round, by pages too."""
        assert ids(manager.list_sessions("ada", order="oldest")) == ten[::-1]
        assert all_pages(manager, "ada", order="oldest", limit=3) == ten[::-1]

    @pytest.mark.parametrize("limit", [1, 3, 10, 50])
    def test_pages_hold_each_session_once(self, manager, other, ten, limit):
        """A cursor goes on where the page before ended; the last page has none."""
        for through in (manager, other):
            assert all_pages(through, "ada", limit=limit) == ten
            assert sorted(all_pages(through, limit=limit)) == sorted([*ten, "bob's", "nobody's"])

    def test_pages_hold_each_session_once_where_times_are_equal(self, manager, other):
        """Sessions of one and the same microsecond have an order too."""
        made = [manager.create_session("ada").session_id for _ in range(25)]

        for limit in (1, 4, 25):
            assert sorted(all_pages(manager, "ada", limit=limit)) == sorted(made)
        assert all_pages(other, limit=7) == all_pages(manager, limit=3)
        assert all_pages(other, limit=7, order="oldest") == all_pages(manager, limit=3)[::-1]

    def test_pages_go_on_whatever_is_written_between_them(self, manager, other, clock, ten):
        """Sessions that nobody touched come once each; what became active after the first page is not waited for."""
        first = manager.list_sessions("ada", limit=3)
        other.create_session("ada", session_id="new")
        other.append("s5", {"role": "user", "content": "moved to the front"})
        other.delete("s7")
        other.delete("s3")
        other.archive("s2")
        second = manager.list_sessions("ada", limit=3, cursor=first.next_cursor)
        third = manager.list_sessions("ada", limit=3, cursor=second.next_cursor)

        assert ids(first) == ["s9", "s8", "s7"]
        assert ids(second) == ["s6", "s4", "s1"]
        assert ids(third) == ["s0"]
        assert third.next_cursor is None

    def test_a_session_moves_to_another_users_list(self, manager, other, ten):
        """A changed user_id takes effect with the save, in lists and counts."""
        session = manager.get_session("s3")
        session.user_id = "bob"
        manager.save(session)

        assert "s3" not in ids(other.get_sessions_for_user("ada"))
        assert sorted(ids(other.get_sessions_for_user("bob"))) == ["bob's", "s3"]
        assert [other.count(each) for each in ("ada", "bob", None)] == [9, 2, 12]

        session.user_id = None
        manager.save(session)

        assert [other.count(each) for each in ("ada", "bob", None)] == [9, 1, 12]
        assert other.verify()

    def test_a_list_of_more_than_a_batch_is_whole(self, manager, other):
        """A hundred and more sessions, each once."""
        made = [manager.create_session("ada").session_id for _ in range(130)]

        assert sorted(ids(other.get_sessions_for_user("ada"))) == sorted(made)
        assert sorted(ids(other.list_sessions(limit=None))) == sorted(made)
        assert other.count("ada") == 130

    # Damage ------------------------------------------------------------------------------------------------------

    CORRUPT = (
        "",
        "not JSON, and nobody else's business",
        "{}",
        "[]",
        "null",
        "12",
        '{"format":1',
        '{"format":1,"revision":"r","session_id":"another"}',
        '{"format":2,"revision":"r","session_id":"s5","secret":"nobody else\'s business"}',
        {"messages": [{"content": "nobody else's business"}]},
        {"messages": 12},
        {"sealed": [{"owner": "s5", "generation": "g", "pages": 1, "messages": 32}]},
        {"message_count": 7},
        {"status": "gone"},
        {"updated_at": "yesterday"},
        {"state": []},
    )

    @pytest.mark.parametrize("text", CORRUPT, ids=range(len(CORRUPT)))
    def test_an_unreadable_session_raises_and_is_left_as_it_is(self, manager, raw, ten, text):
        """Unreadable is not absent: no read, save, append or creation passes over it or overwrites it."""
        copy = manager.get_session("s5")
        copy.add_message("user", "x")
        if isinstance(text, dict):
            text = json.dumps(json.loads(raw["session/s5"]) | text)
        raw["session/s5"] = text

        for act in (
            lambda: manager.get_session("s5"),
            lambda: manager.get_or_create_session("s5"),
            lambda: manager.append("s5", {"role": "user", "content": "x"}),
            lambda: manager.archive("s5"),
            lambda: manager.save(copy),
        ):
            with pytest.raises(InvalidDocumentError) as caught:
                act()
            assert caught.value.session_id == "s5"
            assert caught.value.key in ("session/s5", "messages/s5/g/0")
            assert "nobody else's business" not in str(caught.value)
        with pytest.raises((InvalidDocumentError, SessionExistsError)):  # its id is taken, if that can be read
            manager.create_session("ada", session_id="s5")

        assert raw["session/s5"] == text

    def test_a_torn_session_raises_and_is_left_as_it_is(self, manager, raw, ten):
        """A document of which the end is missing, as a full disk or a careless copy leaves it."""
        fill(session := manager.get_session("s5"), 3)
        manager.save(session)
        torn = raw["session/s5"][:-30]
        raw["session/s5"] = torn

        for act in (
            lambda: manager.get_session("s5"),
            lambda: manager.append("s5", {"role": "user", "content": "x"}),
            lambda: manager.archive("s5"),
            lambda: manager.list_sessions("ada"),
        ):
            with pytest.raises(InvalidDocumentError) as caught:
                act()
            assert caught.value.session_id == "s5"
            assert "message 2" not in str(caught.value)

        assert raw["session/s5"] == torn

    def test_an_unreadable_session_carries_its_text(self, manager, raw, ten):
        """For a rescue by hand, in an attribute."""
        raw["session/s5"] = "half a docum"

        with pytest.raises(InvalidDocumentError) as caught:
            manager.get_session("s5")

        document = caught.value.document
        assert (document if isinstance(document, str) else bytes(document).decode()) == "half a docum"

    def test_an_unreadable_session_in_the_middle_of_a_list_is_named(self, manager, raw, ten):
        """The list raises; `skip_invalid` leaves it out, and the others stay within reach."""
        raw["session/s5"] = '{"format":1,"user_id":"ada", torn'

        for act in (
            lambda: manager.get_sessions_for_user("ada"),
            lambda: manager.list_sessions("ada"),
            manager.list_sessions,
        ):
            with pytest.raises(InvalidDocumentError) as caught:
                act()
            assert caught.value.session_id == "s5"

        others = [each for each in ten if each != "s5"]
        assert ids(manager.get_sessions_for_user("ada", skip_invalid=True)) == others
        assert ids(manager.list_sessions("ada", skip_invalid=True)) == others
        assert ids(manager.get_sessions_for_user("ada", limit=6, skip_invalid=True)) == others[:6]
        assert all(manager.get_session(each) for each in others)
        assert ids(manager.get_sessions_for_user("ada", limit=3)) == ten[:3]

    @pytest.mark.parametrize("text", [None, "", "not JSON", "{}", '[{"content":"no role"}]', "[12]"])
    def test_an_unreadable_page_raises_and_is_left_as_it_is(self, manager, raw, text):
        """A page that is missing or damaged is named; the newest messages can still be read."""
        fill(session := manager.create_session("ada", session_id="s"), 100)
        manager.save(session)
        page = min(key for key in raw if key.startswith("messages/s/"))
        if text is None:
            del raw[page]
        else:
            raw[page] = text

        for act in (lambda: manager.get_session("s"), lambda: manager.get_sessions_for_user("ada")):
            with pytest.raises(InvalidDocumentError) as caught:
                act()
            assert (caught.value.key, caught.value.session_id) == (page, "s")

        assert contents(manager.get_session("s", last=2)) == ["message 98", "message 99"]
        assert manager.get_sessions_for_user("ada", skip_invalid=True) == []
        assert raw.get(page) == text if hasattr(raw, "get") else True

    def test_an_unreadable_session_can_be_deleted(self, manager, other, raw, ten):
        """With its pages; by itself, with its user, or with all."""
        for n, act in enumerate((lambda: manager.delete("s5"), lambda: manager.delete_user("ada"), manager.clear_all)):
            fill(session := manager.get_or_create_session("s5", "ada"), 50)
            manager.save(session)
            raw["session/s5"] = "torn"
            assert act(), n

            assert manager.get_session("s5") is None
            assert not [key for key in raw if key.startswith(("session/s5", "messages/s5"))]
            assert other.get_sessions_for_user("ada", include_archived=True) is not None
        assert other.count(status=None) == 0

    def test_archiving_inactive_sessions_passes_over_unreadable_ones(self, manager, raw, clock, ten):
        """One damaged document does not keep the others from being archived, and stays as it is."""
        raw["session/s5"] = "torn"
        clock.pass_(days=60)

        assert manager.archive_inactive(days=30) == 11

        assert raw["session/s5"] == "torn"

    def test_fields_of_a_later_release_survive_a_save(self, manager, raw):
        """In a head and in a message: read, kept, and written again."""
        session = manager.create_session("ada", session_id="s")
        session.add_message("user", "one")
        manager.save(session)
        head = json.loads(raw["session/s"])
        head["mood"] = {"today": "good"}
        head["messages"][0]["stars"] = 5
        raw["session/s"] = json.dumps(head)

        loaded = manager.get_session("s")
        loaded.add_message("assistant", "two")
        manager.save(loaded)

        head = json.loads(raw["session/s"])
        assert head["mood"] == {"today": "good"}
        assert head["messages"][0]["stars"] == 5
        assert contents(manager.get_session("s")) == ["one", "two"]

    # Mending -----------------------------------------------------------------------------------------------------

    def test_verify_is_true_where_all_is_well(self, manager, other, ten):
        """It counts the sessions it read and finds no problem."""
        fill(session := manager.get_session("s2"), 100)
        manager.save(session)
        manager.archive("s3")

        for through in (manager, other):
            report = through.verify()
            assert report
            assert (report.sessions, report.problems) == (12, [])

    def test_verify_finds_and_removes_orphan_pages(self, manager, raw):
        """Pages that no head names: of a session that is, and of one that is not. Repair removes them alone."""
        fill(session := manager.create_session("ada", session_id="s"), 100)
        manager.save(session)
        orphans = ["messages/gone/generation/0", "messages/s/generation/7"]
        for key in orphans:
            raw[key] = "[]"

        report = manager.verify()

        assert not report
        assert sorted((each.kind, each.session_id) for each in report.problems) == [
            ("orphan page", "gone"),
            ("orphan page", "s"),
        ]
        assert set(orphans) <= set(raw)

        assert manager.verify(repair=True)

        assert not set(orphans) & set(raw)
        assert manager.verify().problems == []
        assert manager.get_session("s") == session

    def test_verify_finds_and_mends_wrong_index_entries(self, manager, other, raw, ten):
        """Documents that another tool changed, added and removed: the document is the truth."""
        assert manager.count() == 12
        head = json.loads(raw["session/s4"])
        raw["session/s4"] = json.dumps({**head, "user_id": "bob"})
        raw["session/added"] = json.dumps({**head, "session_id": "added", "user_id": "carol"})
        del raw["session/s6"]

        report = manager.verify()

        assert not report
        assert sorted(each.session_id for each in report.problems if each.kind == "index") == ["added", "s4", "s6"]
        assert ids(manager.get_sessions_for_user("ada")) == [each for each in ten if each not in ("s4", "s6")]

        assert manager.verify(repair=True)

        assert manager.verify().problems == []
        for through in (manager, other):
            assert sorted(ids(through.get_sessions_for_user("bob"))) == ["bob's", "s4"]
            assert ids(through.get_sessions_for_user("carol")) == ["added"]
            assert [through.count(each) for each in ("ada", "bob", "carol", None)] == [8, 2, 1, 12]

    def test_reindex_lists_what_another_tool_wrote(self, manager, other, raw, ten):
        """Both indexes are what the documents say, and the number of sessions is returned."""
        manager.count()
        head = json.loads(raw["session/s4"])
        raw["session/s4"] = json.dumps({**head, "user_id": "bob"})
        raw["session/added"] = json.dumps({**head, "session_id": "added", "user_id": "carol"})
        del raw["session/s6"]

        assert manager.reindex() == 12

        for through in (manager, other):
            assert sorted(ids(through.get_sessions_for_user("bob"))) == ["bob's", "s4"]
            assert ids(through.list_sessions("carol")) == ["added"]
            assert [through.count(each) for each in ("ada", "bob", "carol", None)] == [8, 2, 1, 12]
        assert manager.verify()

    def test_verify_names_what_cannot_be_read(self, manager, raw, ten):
        """A damaged head, a damaged page, a missing page: each by its session, and nothing is changed."""
        for name in ("s1", "s2", "s3"):
            fill(session := manager.get_session(name), 50)
            manager.save(session)
        raw["session/s1"] = "torn"
        raw[next(key for key in raw if key.startswith("messages/s2/"))] = "torn"
        del raw[next(key for key in raw if key.startswith("messages/s3/"))]
        before = {key: raw[key] for key in list(raw)}

        report = manager.verify()

        assert not report
        assert sorted((each.session_id, each.kind) for each in report.problems) == [
            ("s1", "unreadable head"),
            ("s2", "unreadable page"),
            ("s3", "missing page"),
        ]
        assert {key: raw[key] for key in list(raw)} == before

    def test_repair_sets_an_unreadable_document_aside(self, manager, other, raw, ten):
        """It is kept, word for word, under a key of its own; the lists work again, and the id is free."""
        raw["session/s5"] = "torn, but kept"

        manager.verify(repair=True)

        aside = [key for key in raw if key.startswith("unreadable/")]
        assert [raw[key] for key in aside] == ["torn, but kept"]
        assert manager.get_session("s5") is None
        for through in (manager, other):
            assert ids(through.get_sessions_for_user("ada")) == [each for each in ten if each != "s5"]
            assert through.count("ada") == 9
        assert manager.verify().problems == []
        manager.create_session("ada", session_id="s5")
        assert [raw[key] for key in aside] == ["torn, but kept"]

    def test_purging_finds_nothing_where_nothing_expires(self, manager, ten):
        """And takes nothing away."""
        assert manager.purge_expired() == 0
        assert manager.count() == 12
