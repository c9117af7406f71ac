"""Tests of many drafts in one commit: each is stored or refused as it would be alone."""

from contextlib import closing

import pytest

from pyai_sessions import DiskCacheSessionStore, MemorySessionStore, Session, SessionManager, SQLiteSessionStore
from pyai_sessions.documents.listed import lists_of
from pyai_sessions.documents.writing import compose
from pyai_sessions.sessions.indexes import relist

STORES = {
    "memory": lambda folder: MemorySessionStore(),
    "sqlite": lambda folder: SQLiteSessionStore(folder / "chat.db"),
    "diskcache": lambda folder: DiskCacheSessionStore(folder / "chat"),
}


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    with closing(STORES[request.param](tmp_path)) as store:
        yield store


def changed(store, session_id, *, keep=None, more=1):
    """Return the draft of a stored session with only the first *keep* messages, and *more*."""
    session = store.get(session_id)
    if keep is not None:
        session.rewind(session.messages[keep - 1].message_id)
        session.prune()
    session.add_messages([{"role": "user", "content": "later"}] * more)
    return compose(session)


def test_drafts_that_are_committed_together_do_not_depend_on_each_other(store):
    """Stale copies, used ids, removed pages and missing entries of one draft do not affect another."""
    manager, backend = SessionManager(store), store._engine.backend
    for name in ("first", "second", "stale", "unlisted"):
        session = manager.create_session("ada", session_id=name)
        session.add_messages([{"role": "user", "content": f"{n}"} for n in range(100)])
        manager.save(session)
    assert len(manager.list_sessions("ada")) == 4
    stale, unlisted = changed(store, "stale"), changed(store, "unlisted", more=40)
    manager.append("stale", {"role": "user", "content": "by another"})
    places = [each[:2] for each in lists_of(unlisted.before.entry)]
    assert relist(backend.storage, "unlisted", backend.head("unlisted"), places, ())
    new, taken = (compose(Session(session_id=name, user_id="ada")) for name in ("new", "first"))
    drafts = [changed(store, "first", keep=10), stale, unlisted, new, taken, changed(store, "second", keep=20)]
    assert [bool(each.garbage) for each in drafts] == [True, False, False, False, False, True]
    assert unlisted.pages

    for _ in range(2):
        assert backend.commit_many(drafts) == [True, False, True, True, False, True]

        counts = {each.session_id: each.message_count for each in manager.list_sessions("ada")}
        assert counts == {"first": 11, "second": 21, "stale": 101, "unlisted": 140, "new": 0}
        assert manager.get_session("stale").messages[-1].content == "by another"
        assert not manager.verify().problems
