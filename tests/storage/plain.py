"""The simplest storage: two dicts and a lock. The broken storages derive from it."""

import threading

from pyai_sessions.errors import StorageClosedError, StorageLockedError
from pyai_sessions.storage.protocol import Storage


class Data:
    """The data that storages share."""

    def __init__(self):
        self.lock = threading.RLock()
        self.texts = {}
        self.lists = {}


class PlainStorage(Storage):
    def __init__(self, data=None, timeout=30.0):
        self.data = data or Data()
        self.timeout = timeout
        self.closed = False

    def __enter__(self):
        if self.closed:
            raise StorageClosedError("two dicts", "the storage was closed")
        if not self.data.lock.acquire(timeout=self.timeout):
            raise StorageLockedError("two dicts", f"other threads used it for {self.timeout} s")

    def __exit__(self, *exc_info):
        self.data.lock.release()

    def exclusive(self):
        return self

    def close(self):
        self.closed = True

    def read(self, keys):
        with self:
            return {key: self.data.texts[key] for each in keys for key in self.found(each)}

    def write(self, changes):
        with self:
            return [self.apply(each) for each in changes]

    def apply(self, change):
        if change.done is not None and self.begins(change.expect[0][0], change.done):
            return True
        if not all(self.begins(key, start) for key, start in change.expect):
            return False
        for key, value in change.put:
            self.put(key, value)
        for each in change.drop:
            for key in self.found(each):
                del self.data.texts[key]
        for each in change.lists:
            self.move(each)
        return True

    def begins(self, key, start):
        text = self.data.texts.get(key)
        return text is None if start is None else text is not None and text.startswith(start)

    def found(self, key):
        if key.endswith("/"):
            return [each for each in self.data.texts if each.startswith(key)]
        return [key] if key in self.data.texts else []

    def put(self, key, value):
        self.data.texts[key] = value if isinstance(value, str) else value.decode()

    def move(self, listing):
        members = self.data.lists.setdefault(listing.list, {})
        members.pop(listing.member, None)
        if listing.new is not None:
            members[listing.member] = listing.new

    def keys(self, prefix=""):
        with self:
            return iter([each for each in self.data.texts if each.startswith(prefix)])

    def scan(self, name, after=None, limit=100, *, newest_first=False):
        with self:
            found = sorted(((score, member) for member, score in self.members(name).items()), reverse=newest_first)
        if after is not None:
            found = [each for each in found if (each < after if newest_first else each > after)]
        return found[:limit]

    def members(self, name):
        return self.data.lists.get(name, {})

    def count(self, name):
        with self:
            return len(self.members(name))

    def listings(self, of=None, *, prefix=""):
        with self:
            lists = {name: members for name, members in self.data.lists.items() if name.startswith(prefix)}
            found = [(name, *item) for name, members in lists.items() for item in members.items()]
        return iter(found if of is None else [each for each in found if each[:2] in set(of)])
