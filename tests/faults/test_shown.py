"""Tests that failures show no password and no text, and that files are private."""

# ruff: noqa: E501 (tables)

import logging
import os
import sqlite3
import stat
from contextlib import closing

import pytest
import redis

from pyai_sessions import (
    DiskCacheSessionStore,
    Message,
    RedisSessionStore,
    SessionError,
    SessionManager,
    SQLiteSessionStore,
    open_store,
)
from tests.faults.storages import IN_FILES, ON_SERVERS
from tests.faults.test_damage import Raw

WORDS = "our-own-words"
PASSWORD = "hush-hush"


def shown(err):
    """Return everything that a traceback and a logger show of an error and its causes."""
    texts = []
    while err is not None:
        texts += [str(err), repr(err), repr(err.args)]
        err = err.__cause__ or (None if err.__suppress_context__ else err.__context__)
    return " ".join(texts)


def refuse(*acts):
    """Make calls, and return what is shown of their errors."""
    texts = []
    for act in acts:
        try:
            act()
        except SessionError as err:  # noqa: PERF203 (one after another)
            texts.append(shown(err))
    return texts


def fill(manager):
    session = manager.create_session("ada", session_id="s", metadata={"title": WORDS}, state={"note": WORDS})
    for n in range(40):
        session.add_message("user", WORDS, message_id=f"m{n}", name=WORDS)
    manager.save(session)
    return session


def use(manager, session):
    """Make calls of all kinds, and return what is shown of their errors."""
    session.add_message("user", WORDS)
    return refuse(
        lambda: manager.get_session("s"),
        lambda: manager.save(session),
        lambda: manager.append("s", Message("user", WORDS)),
        lambda: manager.create_session("ada", state={"note": WORDS}),
        lambda: manager.fork("s"),
        manager.list_sessions,
        lambda: manager.get_sessions_for_user("ada"),
        lambda: manager.archive("s"),
    )


WRONG = {
    "content": lambda manager, session: session.add_message("user", [WORDS, {1}]),
    "role": lambda manager, session: session.add_message(WORDS.encode(), WORDS),
    "time": lambda manager, session: session.add_message("user", "", timestamp=WORDS),
    "time of a message": lambda manager, session: Message.from_dict({"role": "", "content": "", "timestamp": WORDS}),
    "metadata": lambda manager, session: session.add_message("user", "", metadata=WORDS),
    "state": lambda manager, session: manager.create_session(state={"note": [WORDS, {WORDS}]}),
    "metadata of a session": lambda manager, session: manager.create_session(metadata=WORDS),
    "message": lambda manager, session: manager.append("s", {"rol": "user", "content": WORDS}),
    "messages": lambda manager, session: session.add_messages([{"role": "user", "content": {"type": WORDS}}]),
    "import": lambda manager, session: manager.import_sessions([{"session_id": "x", "messages": [{"role": "user", "content": [WORDS, {1}]}]}]),
    "imported state": lambda manager, session: manager.import_sessions([{"session_id": "x", "state": {"a": [WORDS, {1}]}}]),
    "filter": lambda manager, session: manager.count(where={"a": [WORDS, {1}]}),
    "summary": lambda manager, session: session.compact({WORDS}),
}  # fmt: skip


@pytest.mark.parametrize("act", WRONG.values(), ids=WRONG)
def test_what_was_given_is_named_and_not_quoted(act):
    """The error names the place of an invalid value, and does not quote text."""
    manager = SessionManager()
    session = fill(manager)

    with pytest.raises(SessionError) as caught:
        act(manager, session)

    assert WORDS not in shown(caught.value)


def damages(document):
    """Iterate over damaged forms of a document whose reader stops near the text."""
    words = WORDS.encode()
    yield from (
        document[:-2],
        b"\xff" + document,
        words,
        b'"%b"' % words,
        b'{"%b":1}' % words,
        document.replace(b'"user"', b"5"),
    )
    for start in (
        b'"status":"',
        b'"created_at":"',
        b'"timestamp":"',
        b'"format":',
        b'"revision":"',
        b'"role":',
        b'"message_count":',
    ):
        yield document.replace(start, start + words)
    yield document.replace(b'"state":{', b'"state":{"%b":nul,' % words)
    yield document.replace(words, words + b"\xff")
    yield document.replace(words, words + b"\xed\xa0\x80")  # a surrogate, which UTF-8 does not have
    yield document.replace(b'"checkpoints":[', b'"checkpoints":[{"name":["%b"]}' % words)


@pytest.mark.parametrize("storage", ["dict", "sqlite", "diskcache", "valkey"], indirect=True)
def test_a_damaged_document_is_named_and_not_quoted(storage, caplog):
    """A damaged document is only in the error's attribute `document`."""
    caplog.set_level(logging.DEBUG)
    with storage.open(timeout=0.3) as manager:
        session = fill(manager)
        page = next(key for key in manager.store._engine.backend.storage.keys("") if key.startswith("messages/"))
        texts = []
        for key in ("session/s", page):
            document = Raw(storage)[key]
            for damaged in damages(document):
                Raw(storage).put(key, damaged)
                texts += refuse(
                    lambda: manager.get_session("s"),
                    lambda: manager.append("s", Message("user", WORDS)),
                    lambda: manager.fork("s", 3, new_id="f"),
                    lambda: manager.archive("s"),
                    manager.list_sessions,
                )
                texts.append(repr(manager.verify().problems))
            Raw(storage).put(key, document)
        texts.append(repr([session, *session.messages, manager.list_sessions(), manager, manager.store]))

    assert len(texts) > 50
    assert not [each for each in texts if WORDS in each]
    assert WORDS not in caplog.text


@pytest.mark.parametrize("storage", IN_FILES, indirect=True)
def test_a_file_that_fails_quotes_nothing(storage):
    """Errors of a locked, constrained, incomplete or closed file quote nothing."""
    path = storage.at / "chat" / "cache.db" if storage.kind == "diskcache" else storage.at / "chat.db"
    table = {"sqlite": "sessions", "sqlitedict": "unnamed", "diskcache": "Cache"}[storage.kind]
    with storage.open(timeout=0.1) as manager:
        session = fill(manager)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            texts = use(manager, session)
            connection.execute("ROLLBACK")
            connection.execute(f"CREATE TRIGGER t BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END")
            texts += use(manager, session)
            connection.execute("DROP TRIGGER t")
            connection.execute(f"ALTER TABLE {table} RENAME TO gone")
            texts += use(manager, session)
    texts += use(manager, session)

    assert len(texts) > 10
    assert not [each for each in texts if WORDS in each]


@pytest.mark.parametrize("kind", ON_SERVERS)
def test_a_server_that_fails_quotes_nothing(start_server, kind):
    """Errors of a server that refuses or fails quote nothing."""
    server = start_server(kind)
    url = f"redis://user:{PASSWORD}@127.0.0.1:{server.port}/0"
    with closing(RedisSessionStore(url, timeout=0.5)) as stranger, server.client() as client:
        texts = [
            *use(SessionManager(stranger), SessionManager().create_session()),
            repr(stranger),
            repr(stranger.mapping),
        ]
        with closing(RedisSessionStore(f"redis://127.0.0.1:{server.port}/0", timeout=0.5)) as store:
            manager = SessionManager(store)
            session = fill(manager)
            client.execute_command("ACL", "SETUSER", "default", "-evalsha", "-eval")
            texts += use(manager, session)
            client.execute_command("ACL", "SETUSER", "default", "+@all")
            client.config_set("maxmemory", "1mb")
            texts += use(manager, session)
            client.config_set("maxmemory", "0")
            client.delete("pyai:sessions:s")
            client.set("pyai:sessions:s", WORDS)
            texts += use(manager, session)
            server.kill()
            texts += use(manager, session)

    assert len(texts) > 20
    assert not [each for each in texts if WORDS in each or PASSWORD in each]


def test_a_command_that_a_server_does_not_know_is_not_quoted(start_server):
    """An unknown command's arguments, which Redis repeats, are not shown."""
    server = start_server("valkey", "--rename-command", "EVALSHA", "")
    with (
        closing(RedisSessionStore(f"redis://127.0.0.1:{server.port}/0", timeout=0.5)) as store,
        pytest.raises(SessionError) as caught,
    ):
        store.mapping["session/s"] = WORDS

    assert isinstance(caught.value.__cause__, redis.ResponseError)
    assert WORDS not in shown(caught.value)


URLS = [
    *("redis://u:{}@host:port/0", "redis://u:{}@h:99999999/0", "redis://u:{}@[::1/0", "redis://u:{}/x@h/0"),
    *("redis://h/0?password={}&db=x", "rediss://h/0?password={}&socket_timeout=x", "red://u:{}@h", "redis://u:{}@h\n:x/0"),
    *("u:{}@h:6379", "//u:{}@h", "redis:u:{}@h", "sqlite://u:{}@h/x?y=1", "memory://u:{}@h?x=1", "diskcache://u:{}@h?x=1"),
    *("redis://u:{}@h:x/0?ttl=5", "redis://u:{}@h/0?ttl=x", "unix://u:{}@/tmp/x?db=x", "redis://u:{}@h/zero?db=x"),
]  # fmt: skip


@pytest.mark.parametrize("password", [PASSWORD, PASSWORD.replace("-", "%2D"), PASSWORD.replace("-", "%252D")])
@pytest.mark.parametrize("url", URLS)
def test_a_url_that_is_refused_is_shown_without_its_password(url, password):
    """A refused URL is shown without its password, wherever in the URL that is."""
    for make in (open_store, RedisSessionStore):
        with pytest.raises(SessionError) as caught:
            make(url.format(password)).get("s")

        assert not any(each in shown(caught.value) for each in (password, PASSWORD))


# Files ----------------------------------------------------------------------------------------------------------------


def modes(path):
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.iterdir() if each.is_file()}


@pytest.fixture(params=[0, 0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("make", [lambda path: SQLiteSessionStore(path / "cache.db"), DiskCacheSessionStore])
def test_what_is_made_is_for_this_user_alone(tmp_path, make, umask):
    """Files have mode 0600 and folders 0700, whatever the umask, logs and large values included."""
    path = tmp_path / "a" / "b"
    with closing(make(path)) as store:
        manager = SessionManager(store)
        fill(manager)
        manager.append("s", Message("user", "long " * 20_000))

        found = modes(path)

    assert found == dict.fromkeys(["cache.db", "cache.db-wal", "cache.db-shm"], 0o600)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o700, 0o700]


@pytest.mark.parametrize("make", [lambda path: SQLiteSessionStore(path / "cache.db"), DiskCacheSessionStore])
def test_what_is_there_keeps_its_mode(tmp_path, make):
    """Existing files and folders keep their mode."""
    tmp_path.chmod(0o750)
    (tmp_path / "cache.db").touch(0o640)

    with closing(make(tmp_path)) as store:
        fill(SessionManager(store))
        found = modes(tmp_path)

    assert found == dict.fromkeys(["cache.db", "cache.db-wal", "cache.db-shm"], 0o640)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750
