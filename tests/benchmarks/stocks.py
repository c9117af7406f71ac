"""Stores that hold many sessions, each imported by a process of its own that tells its pace and its memory.

    python -m tests.benchmarks.stocks import '{"family": "SQLite NORMAL", …}'

is how such a process is started; it prints JSON.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pyai_sessions import KVSessionStore, Session, SessionManager
from tests.benchmarks.families import FAMILIES, Family, Place, add, family
from tests.benchmarks.measure import peak_memory, say
from tests.benchmarks.texts import Texts

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
ACTIVE, LISTED = 25, 40
"""So many users, with so many sessions each, are in every store; they are the ones that are measured."""
ROUNDS = 3
IDLE = (100, 1_000)
"""So many sessions are archived at a time, so many rounds of each."""


def idle_days(step: int) -> int:
    """Return for how many days the sessions of an archiving step have been idle; the next step's for fewer."""
    return 90 - 5 * step


def steps(count: int) -> list[int]:
    """Return how many sessions each archiving step takes, in a store of *count*."""
    idle = sum(IDLE) * ROUNDS
    return [k for k in IDLE for _ in range(ROUNDS)] if count >= ACTIVE * LISTED + idle else []


def sessions(count: int) -> Iterator[Session]:
    """Yield *count* sessions of one turn: those of the active users scattered among the others, some idle for long."""
    texts = Texts(count)
    turns = [texts.turn() for _ in range(200)]
    channels = ({"channel": "web"}, {"channel": "phone"})
    idle = [idle_days(step) for step, k in enumerate(steps(count)) for _ in range(k)]
    every = count // (ACTIVE * LISTED)
    others = max(1, count // LISTED - ACTIVE)
    for n in range(count):
        active, number = n % every == 0 and n // every < ACTIVE * LISTED, n // every
        if active:
            user, time = f"active {number % ACTIVE}", NOW - timedelta(minutes=number)
        else:
            days = idle.pop() if idle else 0
            user, time = f"user {n % others}", NOW - timedelta(days=days, seconds=n % 86_400)
        session = Session(user_id=user, created_at=time, updated_at=time, metadata=channels[number % 2])
        add(session, turns[n % len(turns)])
        session.updated_at = time
        yield session


@dataclass(frozen=True)
class Stock:
    """A store of so many sessions.

    Attributes:
        seconds: What the import took.
        making: What of it the making of the sessions took, which an import from elsewhere has too.
        grown: MB by which the importing process's peak memory grew.
        peak: MB that it had at most.

    """

    family: str
    name: str
    count: int
    seconds: float
    making: float
    grown: float
    peak: float

    def open(self, place: Place) -> KVSessionStore:
        return family(self.family).store(place, self.name)


class Stocks:
    """Makes stocks of a family in all sizes."""

    def __init__(self, place: Place, counts: list[int]) -> None:
        self.place = place
        self.counts = counts
        self._made: dict[str, list[Stock]] = {}
        self._in_memory: dict[int, Stock] = {}

    @property
    def families(self) -> list[Family]:
        return [each for each in FAMILIES if each.name != "SQLite FULL"]  # imports and lists as NORMAL does

    def of(self, kind: Family) -> list[Stock]:
        """Return the stocks of a family that outlives a process."""
        if kind.name not in self._made:
            self._made[kind.name] = []
            for count in self.counts:
                say(f"import: {kind.name}, {count:,} sessions")
                name = f"stock-{count}"
                told = in_process("import", self.place, kind.name, name, count)
                self._made[kind.name].append(Stock(kind.name, name, count, **told))
        return self._made[kind.name]

    def in_memory(self, count: int) -> KVSessionStore:
        """Return a store in this process's memory, just filled; it is the caller's to drop."""
        say(f"import: memory, {count:,} sessions")
        store = family("memory").store(self.place, "")
        self._in_memory[count] = Stock("memory", "", count, **imported(store, count))
        return store

    def told_in_memory(self, count: int) -> Stock:
        """Return what the import into memory took."""
        if count not in self._in_memory:
            self.in_memory(count)
        return self._in_memory[count]


def in_process(job: str, place: Place, kind: str, name: str, count: int) -> dict[str, Any]:
    """Run one of this module's jobs in a process of its own, and return what it tells."""
    told = {"family": kind, "name": name, "count": count, "folder": str(place.folder), "url": place.url}
    command = [sys.executable, "-m", "tests.benchmarks.stocks", job, json.dumps(told)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[2])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# Jobs ----------------------------------------------------------------------------------------------------------


def imported(store: KVSessionStore, count: int) -> dict[str, float]:
    """Import the sessions of a stock, and return what it took."""
    making = 0.0

    def timed() -> Iterator[Session]:
        nonlocal making
        start = time.perf_counter()
        for session in sessions(count):
            making += time.perf_counter() - start
            yield session
            start = time.perf_counter()

    before, start = peak_memory(), time.perf_counter()
    assert SessionManager(store).import_sessions(timed()).inserted == count
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "making": making, **_memory_since(before)}


def reindexed(store: KVSessionStore, count: int) -> dict[str, float]:
    """Rebuild the indexes, and return what it took."""
    before, start = peak_memory(), time.perf_counter()
    assert SessionManager(store).reindex() >= count
    return {"seconds": time.perf_counter() - start, **_memory_since(before)}


def served(store: KVSessionStore, count: int) -> dict[str, float]:
    """List, load and save sessions of all users for a while, and return by how much the memory grew."""
    before, manager, texts = peak_memory(), SessionManager(store), Texts()
    users = max(1, count // LISTED - ACTIVE)
    for n in range(min(users, 400)):
        for each in manager.list_sessions(f"user {n * (users // min(users, 400))}", limit=5):
            session = manager.get_session(each.session_id, last=50)
            assert session is not None
            add(session, texts.turn())
            manager.save(session)
    return _memory_since(before)


def _memory_since(before: float) -> dict[str, float]:
    return {"grown": peak_memory() - before, "peak": peak_memory()}


JOBS = {"import": imported, "reindex": reindexed, "serve": served}


def main(job: str, told: dict[str, Any]) -> None:
    place = Place(Path(told["folder"]), told["url"])
    store = family(told["family"]).store(place, told["name"])
    print(json.dumps(JOBS[job](store, told["count"])))
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
