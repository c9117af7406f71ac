"""Tests of the functions that open stores, and of their URLs."""

import os
import secrets
from contextlib import closing

import pytest

from pyai_sessions import (
    DiskCacheSessionStore,
    InvalidValueError,
    MemorySessionStore,
    RedisSessionStore,
    Session,
    SessionManager,
    SQLiteSessionStore,
    open_store,
)


@pytest.mark.parametrize(
    ("url", "kind", "made"),
    [
        ("memory://", MemorySessionStore, None),
        ("sqlite:///:memory:", SQLiteSessionStore, None),
        ("sqlite:///chat.db", SQLiteSessionStore, "chat.db"),
        ("sqlite:///folder/chat.db", SQLiteSessionStore, "folder/chat.db"),
        ("sqlite:///{here}/chat.db", SQLiteSessionStore, "chat.db"),
        ("sqlite:///a%20b%3Fc.db", SQLiteSessionStore, "a b?c.db"),
        ("diskcache://chat", DiskCacheSessionStore, "chat/cache.db"),
        ("diskcache://folder/chat", DiskCacheSessionStore, "folder/chat/cache.db"),
        ("diskcache://{here}/chat", DiskCacheSessionStore, "chat/cache.db"),
    ],
)
def test_a_url_names_a_store(tmp_path, monkeypatch, url, kind, made):
    """A URL may be relative or absolute. The session is stored there."""
    monkeypatch.chdir(tmp_path)

    with closing(open_store(url.format(here=tmp_path))) as store:
        assert type(store) is kind
        store.save(Session(session_id="s", user_id="ada"))
        assert SessionManager(store).count("ada") == 1

    files = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file()}
    assert files == ({made} if made else set())


def test_options_follow_as_a_query(tmp_path):
    """A URL's query has the store's options."""
    url = f"sqlite:///{tmp_path}/chat.db?table_name=my%20chats&synchronous=NORMAL"
    with closing(open_store(url)) as store:
        store.save(Session(session_id="s"))
        with store.mapping.connections.reading() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (1,)

    with closing(SQLiteSessionStore(tmp_path / "chat.db", "my chats")) as store:
        assert store.get("s") is not None


def test_a_url_of_a_server_carries_prefix_and_time_to_live(any_server):
    """A Redis URL has our options, and the client's, which stay in it."""
    prefix = f"stores:{secrets.token_hex(8)}:"
    with closing(open_store(f"{any_server.url}?prefix={prefix}&ttl=1000&socket_timeout=7")) as store:
        store.save(Session(session_id="s"))

        assert type(store) is RedisSessionStore
        assert (store.mapping.prefix, store.mapping.ttl) == (prefix, 1000)
        assert store.mapping.client.connection_pool.connection_kwargs["socket_timeout"] == 7
        with any_server.client() as client:
            assert client.hexists(prefix + "s", "session")
            assert 0 < client.ttl(prefix + "s") <= 1000


@pytest.mark.parametrize("url", ["redis://localhost:6379/2", "rediss://localhost:6380", "unix:///run/redis.sock"])
def test_every_kind_of_redis_url_is_taken(url):
    """Every kind of Redis URL is accepted. The client connects at its first use."""
    with closing(open_store(url)) as store:
        assert type(store) is RedisSessionStore


@pytest.mark.parametrize(
    "url",
    [
        None,
        5,
        "",
        "chat.db",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "diskcache://",
        "postgres://ada:hush@localhost/chat",
        "memory://?table_name=chats",
        "sqlite:///chat.db?table=chats",
        "sqlite:///chat.db?synchronous=MAYBE",
        "diskcache://chat?eviction_policy=none",
        "sqlite:///a#b.db",
        "redis://:hush@localhost?prefix=",
        "redis://:hush@localhost?prefix=a&prefix=b",
        "redis://:hush@localhost?ttl=soon",
        "redis://:hush@localhost?ttl=0",
        "redis://:hush@localhost:port",
    ],
)
def test_what_names_no_store_is_refused_without_its_credentials(tmp_path, monkeypatch, url):
    """The error says what is accepted, without credentials. Nothing is made."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidValueError) as caught:
        open_store(url)

    assert caught.value.path in ("url", "ttl", "synchronous", "prefix")
    assert "hush" not in str(caught.value)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 (its names are the point)


def test_a_manager_opens_a_url_and_closes_it(tmp_path):
    """A manager closes what it opened, and leaves a given store open."""
    with SessionManager(f"sqlite:///{tmp_path}/chat.db") as manager:
        manager.create_session("ada", session_id="s")
        opened = manager.store
    with pytest.raises(Exception, match="closed"):
        opened.get("s")

    with closing(SQLiteSessionStore(tmp_path / "chat.db")) as store:
        with SessionManager(store) as manager:
            assert manager.get_session("s") is not None
        assert store.get("s") is not None


def test_a_store_of_a_server_closes_its_connections(valkey_server):
    """A store that was made from a URL leaves no connection open when it is closed."""
    store = RedisSessionStore(f"{valkey_server.url}?client_name=closes", prefix=f"closes:{secrets.token_hex(8)}:")
    with valkey_server.client() as client:

        def is_connected():
            return any(each["name"] == "closes" for each in client.client_list())

        SessionManager(store).create_session("ada")
        assert is_connected()
        store.close()

        assert not all(is_connected() for _ in range(1000))  # the server takes a moment to notice
