"""Tests that save every conversation of chatterbot-corpus, and read it here and in another process."""

import importlib.util
import json
import secrets
import shelve
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from functools import cache
from itertools import chain, cycle
from pathlib import Path

import diskcache
import pytest
import yaml
from sqlitedict import SqliteDict

from pyai_sessions import (
    DiskCacheSessionStore,
    KVSessionStore,
    MemorySessionStore,
    Message,
    RedisSessionStore,
    Session,
    SessionManager,
    SQLiteSessionStore,
)
from pyai_sessions.testing import NOON
from tests.processes import run_python

pytestmark = pytest.mark.wide

# Where the package lies, without importing it: it is the data that is wanted.
DATA = Path(importlib.util.find_spec("chatterbot_corpus").submodule_search_locations[0]) / "data"


@cache
def read_corpus():
    """Return the conversations of each file by its name."""
    read = {}
    for path in sorted(DATA.rglob("*.y*ml")):
        loaded = yaml.load(path.read_text("utf-8"), yaml.CSafeLoader) or {}
        read[path.relative_to(DATA).with_suffix("").as_posix()] = loaded.get("conversations") or []
    return read


def read_languages():
    """Return the texts of each language that has some, in order: iterators without end."""
    languages = {}
    for name, conversations in read_corpus().items():
        texts = [[each] if isinstance(each, str) else map(str, each) for each in conversations]
        languages.setdefault(name.partition("/")[0], []).extend(chain.from_iterable(texts))
    return [cycle(texts) for _, texts in sorted(languages.items()) if texts]


def load_corpus():
    """Return sessions: one for each file, with all its conversations, and a user for each language."""
    sessions = []
    for name, conversations in read_corpus().items():
        messages = [
            Message(
                ("user", "assistant")[turn % 2],
                content,
                metadata={"conversation": n},
                timestamp=NOON + timedelta(seconds=n),
                message_id=f"{n}/{turn}",
            )
            for n, conversation in enumerate(conversations)
            for turn, content in enumerate([conversation] if isinstance(conversation, str) else conversation)
        ]
        sessions.append(
            Session(
                session_id=name,
                user_id=name.partition("/")[0],
                metadata={"conversations": len(conversations)},
                created_at=NOON,
                updated_at=NOON + timedelta(seconds=len(sessions)),
                messages=messages,
            )
        )
    return sessions


@contextmanager
def opened(kind, place):
    """Open a store of a kind in a folder, or at a URL with a prefix."""
    with ExitStack() as stack:
        if kind == "SQLite":
            store = SQLiteSessionStore(Path(place) / "chat.db", synchronous="NORMAL")
        elif kind == "SqliteDict":
            mapping = stack.enter_context(closing(SqliteDict(str(Path(place) / "chat.db"), encode=str, decode=str)))
            store = KVSessionStore(mapping)
        elif kind == "diskcache":
            store = DiskCacheSessionStore(Path(place) / "chat")
        elif kind == "diskcache.Index":
            index = diskcache.Index(str(Path(place) / "chat"))
            stack.callback(index.cache.close)
            store = KVSessionStore(index)
        elif kind == "shelve":
            store = KVSessionStore(stack.enter_context(shelve.open(str(Path(place) / "chat"))))  # noqa: S301
        else:
            url, _, prefix = place.partition(" ")
            store = RedisSessionStore(url, prefix=prefix)
        stack.callback(store.close)
        yield store


def compare(store, corpus):
    """Compare every session, list and count of a store with the corpus."""
    manager = SessionManager(store)
    for session in corpus:
        assert store.get(session.session_id) == session
    by_user = {session.user_id: [] for session in corpus}
    for session in reversed(corpus):
        by_user[session.user_id].append(session.session_id)
    for user_id, newest_first in by_user.items():
        assert [each.session_id for each in manager.list_sessions(user_id, limit=None)] == newest_first
    assert store.list_for_user("english") == [each for each in reversed(corpus) if each.user_id == "english"]
    listed = manager.list_sessions(limit=None)
    assert [each.session_id for each in listed] == [each.session_id for each in reversed(corpus)]
    assert [each.message_count for each in listed] == [each.message_count for each in reversed(corpus)]
    assert manager.count() == len(corpus)


@pytest.fixture(scope="module")
def corpus():
    return load_corpus()


def test_the_corpus_is_what_it_is_taken_for(corpus):
    """The corpus has thousands of conversations in many scripts, some longer than a page."""
    assert len({each.user_id for each in corpus}) >= 20
    assert sum(each.metadata["conversations"] for each in corpus) >= 7000
    assert max(each.message_count for each in corpus) > 500
    assert all(type(message.content) is str for each in corpus for message in each.messages)
    assert not json.dumps([each.messages[0].content for each in corpus if each.messages], ensure_ascii=False).isascii()


@pytest.mark.parametrize("make", [MemorySessionStore, lambda: KVSessionStore({})], ids=["memory", "dict"])
def test_every_conversation_is_kept_in_memory(make):
    """Every conversation is read equal, and listed by language."""
    store = make()
    for session in load_corpus():
        store.save(session)

    compare(store, load_corpus())


LONG = [pytest.param(each, marks=pytest.mark.long) for each in ("SqliteDict", "diskcache.Index", "redis_server")]


@pytest.mark.parametrize("kind", ["SQLite", "diskcache", "shelve", "valkey_server", *LONG])
def test_every_conversation_is_read_by_another_process(kind, tmp_path, request):
    """Every conversation is read equal here, and by a process that loads the corpus itself."""
    place = str(tmp_path)
    if kind.endswith("_server"):
        place = f"{request.getfixturevalue(kind).url} corpus:{secrets.token_hex(8)}:"
    with opened(kind, place) as store:
        for session in load_corpus():
            store.save(session)
        compare(store, load_corpus())

    printed = run_python(
        """
        import sys
        from pyai_sessions import SessionManager
        from tests.prompts.test_corpus import compare, load_corpus, opened
        with opened(*sys.argv[1:]) as store:
            compare(store, load_corpus())
            print(SessionManager(store).count())
        """,
        kind,
        place,
    )

    with opened(kind, place) as store:
        manager = SessionManager(store)
        assert int(printed) == manager.count()
        assert manager.verify()
        assert manager.clear_all() == int(printed)
