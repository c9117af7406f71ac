"""Our stores of the four families, each beside its floor."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pyai_sessions import (
    DiskCacheSessionStore,
    KVSessionStore,
    MemorySessionStore,
    RedisSessionStore,
    Session,
    SessionManager,
    SQLiteSessionStore,
)
from tests.benchmarks.floors import (
    Floor,
    MemoryFloor,
    RedisFloor,
    SQLiteFloor,
    modes,
    rows_of_dict,
    rows_of_hash,
    rows_of_table,
)
from tests.benchmarks.texts import Messages


@dataclass(frozen=True)
class Place:
    """Where the files lie, and which server is used."""

    folder: Path
    url: str


class Family(Protocol):
    """A backend as it is set up for the measurements; *name* tells stores of one family apart."""

    name: str
    reach: float | None
    """What a turn may cost, over the floor's."""

    def store(self, place: Place, name: str) -> KVSessionStore: ...
    def durability(self, store: KVSessionStore) -> str: ...
    def floor(self, place: Place, name: str) -> Floor: ...
    def rows(self, place: Place, name: str, store: KVSessionStore, session_id: str) -> Callable[[], object]: ...


class Memory:
    """A dict."""

    name = "memory"
    reach = None

    def store(self, place: Place, name: str) -> KVSessionStore:
        return MemorySessionStore()

    def durability(self, store: KVSessionStore) -> str:
        return "-"

    def floor(self, place: Place, name: str) -> Floor:
        return MemoryFloor()

    def rows(self, place: Place, name: str, store: KVSessionStore, session_id: str) -> Callable[[], object]:
        return rows_of_dict(store.mapping, session_id)


@dataclass(frozen=True)
class SQLite:
    """An SQLite file, with a `synchronous`."""

    synchronous: str
    reach: float | None = 1.5

    @property
    def name(self) -> str:
        return f"SQLite {self.synchronous}"

    def store(self, place: Place, name: str) -> KVSessionStore:
        return SQLiteSessionStore(self._path(place, name), synchronous=self.synchronous, timeout=60)

    def durability(self, store: KVSessionStore) -> str:
        with store.mapping.connections.reading() as connection:
            journal, synchronous = [
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
            ]
        return modes(journal, synchronous)

    def floor(self, place: Place, name: str) -> Floor:
        return SQLiteFloor(place.folder / f"{name}-floor-{self.synchronous}.db", self.synchronous)

    def rows(self, place: Place, name: str, store: KVSessionStore, session_id: str) -> Callable[[], object]:
        return rows_of_table(self._path(place, name), "sessions", session_id)

    def _path(self, place: Place, name: str) -> Path:
        return place.folder / f"{name}-{self.synchronous}.db"


class DiskCache:
    """A diskcache.Index, as diskcache sets it up."""

    name = "diskcache"
    reach = None

    def store(self, place: Place, name: str) -> KVSessionStore:
        return DiskCacheSessionStore(place.folder / f"{name}-diskcache", timeout=60)

    def durability(self, store: KVSessionStore) -> str:
        settings = store.mapping.cache
        return modes(settings.sqlite_journal_mode, settings.sqlite_synchronous)

    def floor(self, place: Place, name: str) -> Floor:
        return SQLiteFloor(place.folder / f"{name}-floor-diskcache.db", "NORMAL")

    def rows(self, place: Place, name: str, store: KVSessionStore, session_id: str) -> Callable[[], object]:
        return rows_of_table(place.folder / f"{name}-diskcache" / "cache.db", "Cache", session_id)


class Redis:
    """A Redis-like server without persistence: what is measured is the round trip."""

    name = "Valkey"
    reach = 1.5

    def store(self, place: Place, name: str) -> KVSessionStore:
        return RedisSessionStore(place.url, prefix=f"{name}:", timeout=60)

    def durability(self, store: KVSessionStore) -> str:
        return "the server's"

    def floor(self, place: Place, name: str) -> Floor:
        return RedisFloor(place.url, f"{name}-floor:")

    def rows(self, place: Place, name: str, store: KVSessionStore, session_id: str) -> Callable[[], object]:
        return rows_of_hash(place.url, f"{name}:{session_id}")


FAMILIES: tuple[Family, ...] = (Memory(), SQLite("NORMAL"), SQLite("FULL"), DiskCache(), Redis())


def family(name: str) -> Family:
    return next(each for each in FAMILIES if each.name == name)


def conversation(manager: SessionManager, messages: Messages, user_id: str = "ada") -> Session:
    """Return a stored session of these messages."""
    session = manager.create_session(user_id)
    add(session, messages)
    manager.save(session)
    return session


def add(session: Session, messages: Messages) -> None:
    for each in messages:
        session.add_message(**each)
