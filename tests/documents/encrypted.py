"""Managers with encrypted stores, and what lies in these."""

import dbm.dumb
import json
import secrets
import shelve

import diskcache
from sqlitedict import SqliteDict

from pyai_sessions import Encrypted, KVSessionStore, RedisMapping, SessionManager, SQLiteMapping
from pyai_sessions.testing import StoppedClock
from pyai_sessions.testing.samples import fill

INDEX, OLD, NEW = b"i" * 32, b"o" * 32, b"n" * 32
FIRST, BOTH, LAST = {"index": INDEX, "old": OLD}, {"index": INDEX, "old": OLD, "new": NEW}, {"index": INDEX, "new": NEW}


def manage(mapping, keys=FIRST, **options):
    """Return the manager of an encrypted store."""
    return SessionManager(KVSessionStore(Encrypted(mapping, keys, **options), clock=StoppedClock()))


def write_some(manager):
    """Store a session with pages and a branch, one without a user and an archived one; return the first."""
    session = manager.create_session("ada", session_id="s", metadata={"title": "Trains"}, state={"step": 1})
    fill(session, 100)
    manager.save(session)
    session.rewind("m50")
    session.add_message("user", "another question")
    manager.save(session)
    manager.create_session(session_id="nobody's")
    manager.archive(manager.create_session("bob", session_id="archived").session_id)
    return session


def key_ids(mapping):
    """Return the key ids of encrypted values, and None for plain ones."""
    values = [value if isinstance(value, str) else bytes(value).decode() for value in map(mapping.__getitem__, mapping)]
    return {json.loads(each).get("encrypted", ".").partition(".")[0] if each[0] == "{" else "" for each in values}


def opened(kind, request, folder):
    if kind == "sqlite":
        return SQLiteMapping(folder / "chat.db")
    if kind == "sqlitedict":
        return SqliteDict(str(folder / "chat.db"), encode=str, decode=str, autocommit=True)
    if kind == "diskcache":
        mapping = diskcache.Index(str(folder / "chat"))
        mapping.close = mapping.cache.close
        return mapping
    if kind == "shelf":
        return shelve.Shelf(dbm.dumb.open(str(folder / "chat")))
    server = request.getfixturevalue(f"valkey_{'server' if kind == 'valkey' else kind}")
    mapping = RedisMapping(server.client(), prefix=f"rotate:{secrets.token_hex(8)}:", ttl=3600)
    mapping.close = mapping.client.close
    return mapping
