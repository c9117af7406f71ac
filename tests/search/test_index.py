"""Tests of the search index, which is derived from documents while others write."""

import sqlite3
import zlib
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlitedict import SqliteDict

from pyai_sessions import (
    Encrypted,
    InvalidDocumentError,
    KVSessionStore,
    Message,
    SessionManager,
    SQLiteSessionStore,
    StorageReadOnlyError,
    UnsupportedOperationError,
)
from pyai_sessions.search.index import SearchIndex
from pyai_sessions.search.queries import make_query
from pyai_sessions.storage.sqlite import fulltext
from pyai_sessions.testing.clock import StoppedClock
from tests.search import oracle
from tests.search.stored import KEYS, KINDS, Stored
from tests.search.test_searching import fill, interfering, places


@pytest.fixture(params=["sqlite", "dict", "encrypted"])
def stored(request, tmp_path):
    url = request.getfixturevalue("valkey_server").url if request.param == "valkey" else None
    with closing(Stored(request.param, tmp_path, url)) as made:
        yield made


@pytest.fixture
def in_file(tmp_path):
    with closing(Stored("sqlite", tmp_path)) as made:
        yield made


class Reads:
    """Records the keys that a storage is asked for."""

    def __init__(self, backend):
        self.storage = backend.storage
        self.keys = []

    def __enter__(self):
        read = self.storage.read

        def noted(keys):
            self.keys += keys
            return read(keys)

        self.storage.read = noted
        return self.keys

    def __exit__(self, *_):
        del self.storage.read


# What it saves --------------------------------------------------------------------------------------------------------


def test_only_documents_that_may_match_are_read(in_file):
    """A search reads only the sessions and pages that the index names."""
    for n in range(30):
        fill(in_file.manager, in_file.clock, [f"text {n} {m} of the night" for m in range(70)], "ada", f"s{n}")
    in_file.index.build()

    with Reads(in_file.store._engine.backend) as keys:
        (hit,) = in_file.search('"text 17 5"')

    assert (hit.session_id, hit.position) == ("s17", 5)
    assert len(keys) == 2


def test_what_changed_is_indexed_by_later_searches(in_file):
    """Each search indexes some changed documents, and looks into the rest."""
    for n in range(60):
        fill(in_file.manager, in_file.clock, [f"text {n}"], "ada", f"s{n}")

    before = in_file.index._index.due(limit=1000)
    found = in_file.search('"text 5"')

    assert {f"session/s{n}" for n in range(60)} <= {*before}
    assert in_file.index._index.due() == []
    assert [each.session_id for each in found] == ["s5"]
    assert in_file.search('"text 5"') == found


def test_an_index_is_not_asked_for_a_word_that_most_documents_have(in_file):
    """For a word of most documents, a page of newest hits is found in a few reads, without collecting all names."""
    for n in range(250):
        fill(in_file.manager, in_file.clock, [f"night {n}"], "ada", f"s{n}")
    in_file.index.build()

    assert in_file.index.candidates(make_query("night", "words")) is None
    assert len(in_file.index.candidates(make_query('"night 5"', "words")).keys) == 1
    with Reads(in_file.store._engine.backend) as keys:
        found = in_file.search("night", limit=5)

    assert [each.session_id for each in found] == ["s249", "s248", "s247", "s246", "s245"]
    assert len(keys) <= 100


@pytest.mark.parametrize("kind", ["sqlite", "dict"])
def test_a_common_word_is_found_in_the_order_of_the_lists(tmp_path, kind, monkeypatch):
    """If more sessions may match than are read at once, the list gives the order."""
    monkeypatch.setattr(fulltext, "_MANY", 10_000)
    with closing(Stored(kind, tmp_path)) as stored:
        for n in range(520):
            stored.clock.advance(seconds=1)
            stored.manager.create_session("ada", session_id=f"s{n}").add_message("user", "night")
            stored.manager.import_sessions(
                [{"session_id": f"t{n}", "messages": [{"role": "user", "content": "night"}]}]
            )
        stored.index.build()

        found = stored.search("night", limit=600)

        assert len(found) == 520
        assert {each.session_id for each in found} == {f"t{n}" for n in range(520)}
        page = stored.search("night", limit=3)
        assert list(page) == found[:3]
        assert list(stored.search("night", limit=5, cursor=page.next_cursor)) == found[3:8]


# Beside writers -------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["night", "train", "vienna", "night train", "東京"])
NAMES = st.sampled_from(["a", "b", "c"])
ACTIONS = st.one_of(
    st.tuples(st.just("append"), NAMES, st.lists(WORDS, min_size=1, max_size=40)),
    st.tuples(st.just("edit"), NAMES, WORDS),
    st.tuples(st.just("remove"), NAMES, st.integers(0, 50)),
    st.tuples(st.just("replace"), NAMES, WORDS),
    st.tuples(st.just("take out"), NAMES, st.integers(0, 50)),
    st.tuples(st.just("delete"), NAMES, st.none()),
    st.tuples(st.just("archive"), NAMES, st.none()),
    st.tuples(st.just("fork"), NAMES, NAMES),
    st.tuples(st.just("redact"), NAMES, WORDS),
    st.tuples(st.just("give"), NAMES, NAMES),
    st.tuples(st.just("rewind"), NAMES, st.integers(0, 50)),
    st.tuples(st.just("expire"), NAMES, st.none()),
    st.tuples(st.just("erase"), NAMES, st.none()),
    st.tuples(st.just("search"), NAMES, WORDS),
    st.tuples(st.just("index"), NAMES, st.none()),
    st.tuples(st.just("clear"), NAMES, st.none()),
    st.tuples(st.just("rotate"), NAMES, st.none()),
)


def edited(session, what, value):
    """Change a loaded session in one way."""
    message = session.messages[len(session.messages) // 3] if session.messages else None
    if what == "give":
        session.user_id = f"user {value}"
    elif what == "rewind":
        session.rewind(min(value, sum(each.role == "user" for each in session.messages)))
    elif message and what == "edit":
        session.replace_message(message, content=value)
    elif message:
        session.remove_message(message)
    return session


def change(stored, manager, session, what, value):
    """Change a stored session that is active."""
    name = session.session_id
    if what in ("edit", "remove", "rewind", "give"):
        manager.save(edited(session, what, value))
    elif what == "append":
        manager.append(name, *[Message("user", each) for each in value])
    elif what == "delete":
        manager.delete(name)
    elif what == "archive":
        manager.archive(name)
    elif what in ("redact", "replace", "take out") and session.messages:
        message_id = session.messages[len(session.messages) // 2].message_id
        if what == "redact":
            manager.redact(name, message_id, content=value)
        elif what == "replace":
            manager.replace_message(name, message_id, content=value)
        else:
            manager.remove_message(name, message_id)
    elif what == "fork" and manager.get_session(value) is None:
        manager.delete(value)
        manager.fork(name, min(40, len(session.messages)), new_id=value, user_id=f"user {value}")


def keep_up(stored, manager, what, name, value):
    """Make a call on many sessions, if the name is one. Return whether it is."""
    if what == "rotate":
        if "encrypted" in stored.kind:
            manager.rotate_keys()
    elif what == "index":
        stored.index.build()
    elif what == "search":
        stored.search(value)
    elif what == "erase":
        manager.delete_user(f"user {name}")
    elif what == "expire":
        stored.clock.advance(seconds=900)
    elif what == "clear":
        manager.purge_expired()
    else:
        return False
    return True


def act(stored, what, name, value):
    """Make one call through one of the two managers, if the session's state allows it."""
    manager = stored.manager if name == "a" else stored.other
    stored.clock.advance(seconds=1)
    if keep_up(stored, manager, what, name, value):
        return
    session = manager.get_session(name)
    if session is None and what == "append":
        manager.delete(name)
        fill(manager, stored.clock, value, f"user {name}", name)
    elif session is not None and session.status == "active":
        change(stored, manager, session, what, value)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(actions=st.lists(ACTIONS, max_size=15), asked=st.tuples(WORDS, st.booleans()))
def test_an_index_finds_what_a_plain_search_finds(tmp_path_factory, valkey_server, kind, actions, asked):
    """After any changes by two managers, a search with an index finds what a plain search finds."""
    word, of_user = asked
    with closing(Stored(kind, tmp_path_factory.mktemp("index"), valkey_server.url)) as stored:
        for each in actions:
            act(stored, *each)
        user = {"user_id": "user a"} if of_user else {}
        sessions = [stored.manager.get_session(each.session_id) for each in stored.manager.list_sessions(**user)]

        found = stored.search(f'"{word}"', limit=None, **user)

        assert places(found) == oracle.hits(sessions, [[word]])


def between(monkeypatch, action):
    """Let others write right after the index was asked."""
    ask = SearchIndex.candidates

    def candidates(self, query):
        found = ask(self, query)
        action()
        return found

    monkeypatch.setattr(SearchIndex, "candidates", candidates)


@pytest.mark.parametrize("indexes", [True, False])
def test_messages_that_move_while_an_index_is_asked_are_found(stored, monkeypatch, indexes):
    """Messages that move into new pages while the index is asked are found."""
    fill(stored.manager, stored.clock, [f"night {n}" for n in range(20)], "ada", "a")
    stored.index.build()
    before = stored.search("night", limit=None)

    def turn():
        stored.clock.advance(seconds=1)
        stored.other.append("a", *[Message("user", "day") for _ in range(40)])
        if indexes:
            stored.index.build()

    between(monkeypatch, turn)

    assert [each.message_id for each in stored.search("night", limit=None)] == [each.message_id for each in before]


def test_messages_that_move_out_of_a_page_while_an_index_is_asked_are_found(stored, monkeypatch):
    """Messages that move into the head while the index is asked are found."""
    fill(stored.manager, stored.clock, [*["night"] * 32, *["day"] * 5], "ada", "a")
    stored.index.build()

    def shorten():
        session = stored.other.get_session("a")
        for each in session.messages[:30]:
            session.remove_message(each)
        stored.other.save(session)

    between(monkeypatch, shorten)

    assert [each.position for each in stored.search("night", limit=None)] == [1, 0]


@pytest.mark.parametrize("stored", ["dict", "encrypted"], indirect=True)
def test_messages_that_move_while_they_are_indexed_are_found(stored):
    """A message is found that moves to a new page while its session is indexed."""
    fill(stored.manager, stored.clock, [*["day"] * 40, *["night"] * 5], "ada", "a")

    with interfering(
        stored.index._storage, lambda: stored.other.append("a", *[Message("user", "day") for _ in range(40)])
    ):
        stored.index.build()

    assert [each.position for each in stored.search("night")] == [44, 43, 42, 41, 40]


@pytest.mark.parametrize("stored", ["dict", "encrypted"], indirect=True)
def test_messages_in_a_page_that_another_replaces_while_it_is_indexed_are_found(stored):
    """The messages of a page are indexed though a change of one of them put another page in its place meanwhile."""
    stored.index.build()
    fill(stored.manager, stored.clock, [*["night"] * 32, *["day"] * 8], "ada", "a")
    first = stored.manager.get_messages("a").messages[0]

    with interfering(stored.index._storage, lambda: stored.other.replace_message("a", first, content="day")):
        found = stored.search("night", limit=None)

    assert len(found) == 31


@pytest.mark.parametrize("stored", KINDS, indirect=True)
@pytest.mark.parametrize("change", ["delete", "replace_message"])
def test_what_a_fork_shares_is_found_after_a_change_of_its_parent(stored, change):
    """The pages that they shared are the fork's."""
    fill(stored.manager, stored.clock, [*["night"] * 5, *["day"] * 100], "ada", "a")
    stored.manager.fork("a", new_id="fork")
    stored.index.build()
    first = stored.manager.get_messages("fork").messages[0].message_id

    stored.other.delete("a") if change == "delete" else stored.other.replace_message("a", first, content="day")

    for _ in range(2):
        found = [each.position for each in stored.search("night") if each.session_id == "fork"]
        assert found == [4, 3, 2, 1, 0]
        stored.index.build()


@pytest.mark.parametrize("stored", ["dict", "encrypted", "storage", "valkey"], indirect=True)
def test_no_word_of_an_index_outlives_the_pages_that_an_interrupted_build_left(stored):
    """An erasure takes pages out of the index though it has no head of their session."""
    fill(stored.manager, stored.clock, ["night"] * 750, "ada", "a")
    fill(stored.manager, stored.clock, ["night"] * 100, "bob", "b")
    stored.manager.fork("b", new_id="fork", user_id="bob")

    def interrupt(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stored.index.rebuild(interrupt)
    stored.other.delete("b")
    stored.manager.delete_user("ada")

    left = [each for keys in stored.index._index.keys("messages/") for each in keys]
    assert left
    assert {each.split("/")[1] for each in left} == {"b"}


@pytest.mark.parametrize("stored", ["dict", "encrypted"], indirect=True)
def test_nothing_stays_in_an_index_of_a_session_that_is_deleted_while_it_is_indexed(stored):
    """The index holds neither its head nor its pages."""
    fill(stored.manager, stored.clock, ["night"] * 80, "ada", "a")
    stored.index.build()
    stored.other.append("a", *[Message("user", "night") for _ in range(40)])

    with interfering(stored.index._storage, lambda: stored.other.delete("a")):
        stored.index.build()
    stored.index.build()

    assert [each for keys in stored.index._index.keys("") for each in keys if not each.startswith("forks/")] == []


# Whoever writes -------------------------------------------------------------------------------------------------------


def test_what_other_programs_write_into_the_file_is_found(in_file):
    """The file's triggers record changes by any program."""
    with closing(SqliteDict(str(in_file.path), "sessions", encode=str, decode=str, journal_mode="WAL")) as plain:
        plain["session/x"] = (
            '{"format":1,"session_id":"x","messages":[{"role":"user","message_id":"m","timestamp":'
            '"2026-01-31T12:00:00Z","content":"a night"}]}'
        )
        plain.commit()
    in_file.manager.reindex()
    assert [each.session_id for each in in_file.search("night")] == ["x"]
    in_file.index.build()

    with closing(sqlite3.connect(in_file.path)) as connection:
        connection.execute("UPDATE sessions SET value = replace(value, 'night', 'day')")
        connection.commit()

    assert list(in_file.search("night")) == []
    assert len(in_file.search("day")) == 1


def test_a_file_that_is_open_for_reading_alone_is_searched(in_file):
    """In a read-only file, documents that are not indexed are looked into."""
    for n in range(70):
        fill(in_file.manager, in_file.clock, [f"night {n}"], "ada", f"s{n}")

    with closing(SQLiteSessionStore(in_file.path, read_only=True, clock=in_file.clock)) as store:
        found = SessionManager(store).search("night", limit=None)
        with pytest.raises(StorageReadOnlyError):
            SessionManager(store).build_search_index(rebuild=True)

    assert len(found) == 70


def test_a_document_that_cannot_be_read_is_told_of(in_file):
    """A search raises at an unreadable document, as without an index."""
    fill(in_file.manager, in_file.clock, ["night"] * 40, "ada", "a")
    with closing(sqlite3.connect(in_file.path)) as connection:
        connection.execute("UPDATE sessions SET value = substr(value, 1, 99) WHERE key LIKE 'messages/%'")
        connection.commit()
    in_file.index.build()

    with pytest.raises(InvalidDocumentError):
        in_file.search("day")
    assert list(in_file.search("day", skip_invalid=True)) == []


# What it may not hold -------------------------------------------------------------------------------------------------


def words_in(path):
    """Return everything that the tables of the index contain."""
    with closing(sqlite3.connect(path)) as connection:
        blocks = [row[0] for row in connection.execute('SELECT block FROM "sessions/search_data"')]
        packed = connection.execute('SELECT words FROM "sessions/search/documents" WHERE words NOTNULL').fetchall()
        due = connection.execute('SELECT key FROM "sessions/search/due"').fetchall()
    return b" ".join(blocks) + b" ".join(zlib.decompress(each) for (each,) in packed) + repr(due).encode()


@pytest.mark.parametrize("how", ["delete_user", "redact", "clear_all"])
def test_an_erasure_leaves_no_word_in_the_index(in_file, how):
    """Erased text is not in the index, nor in what FTS5 keeps of deleted rows."""
    every = fill(in_file.manager, in_file.clock, ["a secret", *["night"] * 50], "ada", "a").messages
    fill(in_file.manager, in_file.clock, ["night"], "bob", "b")
    in_file.index.build()
    assert b"secret" in words_in(in_file.path)

    if how == "redact":
        in_file.manager.redact("a", every[0].message_id)
    elif how == "delete_user":
        in_file.manager.delete_user("ada")
    else:
        in_file.manager.clear_all()

    assert b"ecret" not in words_in(in_file.path)
    assert len(in_file.search("night", limit=None)) == {"redact": 51, "delete_user": 1, "clear_all": 0}[how]


def test_an_encrypted_store_has_no_index_on_disk(tmp_path):
    """An encrypted store has no index on disk, which would contain the text."""
    with (
        closing(Stored("encrypted", tmp_path)) as stored,
        pytest.raises(UnsupportedOperationError, match="would show their words; leave path out"),
    ):
        stored.manager.build_search_index(tmp_path / "search.db")
    with closing(SQLiteSessionStore(tmp_path / "chat.db")) as store:
        encrypted = SessionManager(KVSessionStore(Encrypted(store.mapping, KEYS)))
        encrypted.build_search_index()
        with closing(sqlite3.connect(tmp_path / "chat.db")) as connection:
            assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name LIKE '%/search%'").fetchall()
    assert not (tmp_path / "search.db").exists()


def test_keys_are_rotated_beside_an_index():
    """After a key rotation, a search with the index finds the same."""
    mapping, clock = {}, StoppedClock()
    manager = SessionManager(KVSessionStore(Encrypted(mapping, {"1": KEYS["1"]})), clock=clock)
    fill(manager, clock, ["night"] * 40, "ada", "a")
    newer = SessionManager(KVSessionStore(Encrypted(mapping, KEYS)), clock=clock)
    newer.build_search_index()

    newer.rotate_keys()

    assert len(newer.search("night", limit=None)) == 40
