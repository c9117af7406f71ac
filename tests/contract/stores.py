"""Custom stores for tests: of four methods, sync, async and mixed, and with every optional power."""

import asyncio
import threading
from collections import deque
from itertools import count

from pyai_sessions import Session, SessionConflictError, SessionStore


class AsyncStore(SessionStore):
    """Rows of JSON behind coroutines, like a database's async client."""

    def __init__(self):
        self.rows = {}

    async def save(self, session):
        await asyncio.sleep(0)
        self.rows[session.session_id] = (session.user_id, session.to_json())

    async def get(self, session_id):
        await asyncio.sleep(0)
        row = self.rows.get(session_id)
        return row and Session.from_json(row[1])

    async def delete(self, session_id):
        await asyncio.sleep(0)
        self.rows.pop(session_id, None)

    async def list_for_user(self, user_id):
        await asyncio.sleep(0)
        return [Session.from_json(text) for owner, text in self.rows.values() if owner == user_id]


class SyncStore(SessionStore):
    """The same four methods without `async`, safe in threads. Its list has no order, and is a tuple."""

    def __init__(self):
        self.rows = deque()
        self.lock = threading.Lock()

    def save(self, session):
        row = session.to_dict()
        with self.lock:
            self.rows = deque([row, *(each for each in self.rows if each["session_id"] != session.session_id)])

    def get(self, session_id):
        return next((Session.from_dict(each) for each in self.rows if each["session_id"] == session_id), None)

    def delete(self, session_id):
        with self.lock:
            self.rows = deque(each for each in self.rows if each["session_id"] != session_id)

    def list_for_user(self, user_id):
        return tuple(Session.from_dict(each) for each in self.rows if each["user_id"] == user_id)


class MixedStore(SyncStore):
    """Saves by a coroutine, reads by another awaitable, and deletes and lists without either."""

    async def save(self, session):
        super().save(session)

    def get(self, session_id):
        return asyncio.sleep(0, super().get(session_id))


class Unrelated:
    """The four methods on a class without our base class."""

    def __init__(self):
        self._store = SyncStore()
        for name in ("save", "get", "delete", "list_for_user"):
            setattr(self, name, getattr(self._store, name))


class FullStore(SessionStore):
    """Rows of JSON with revisions, and a list by activity."""

    def __init__(self):
        self.rows = {}
        self.lock = threading.RLock()
        self.revisions = count(1)  # shared by all sessions, so that no id has the same revision twice

    def save(self, session):
        with self.lock:
            stored = self.rows[session.session_id][0] if session.session_id in self.rows else None
            if stored != session.revision:
                raise SessionConflictError(
                    session.session_id, session.revision, stored or "none", "was saved by another writer"
                )
            self.write(session)

    def write(self, session):
        session.revision = str(next(self.revisions))
        place = session.active_at, session.session_id
        self.rows[session.session_id] = (session.revision, session.to_json(), session.user_id, place)

    def read(self, session_id):
        revision, text, _, _ = self.rows[session_id]
        session = Session.from_json(text)
        session.revision = revision
        return session

    def get(self, session_id):
        with self.lock:
            return self.read(session_id) if session_id in self.rows else None

    def delete(self, session_id):
        with self.lock:
            self.rows.pop(session_id, None)

    def list_for_user(self, user_id):
        with self.lock:
            return [self.read(each) for each, (_, _, owner, _) in self.rows.items() if owner == user_id]

    def list_by_activity(self, after, limit):
        with self.lock:
            places = sorted(place for _, _, _, place in self.rows.values() if after is None or place > after)
            return [self.read(session_id) for _, session_id in places[:limit]]


class AsyncFullStore(SessionStore):
    """The same methods as coroutines."""

    def __init__(self):
        self._store = FullStore()
        for name in ("save", "get", "delete", "list_for_user", "list_by_activity"):
            setattr(self, name, self._later(getattr(self._store, name)))

    @staticmethod
    def _later(method):
        async def later(*args):
            await asyncio.sleep(0)
            return method(*args)

        return later

    async def save(self, session):
        """Do nothing: the constructor replaces this and the other three."""

    get = delete = list_for_user = save
