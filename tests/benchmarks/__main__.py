"""Print what turns, loads and lists cost, as ratios against a floor measured in the same run.

    python -m tests.benchmarks                 all of it, about two minutes
    python -m tests.benchmarks --sizes 10 1000 other lengths of conversations

A turn is a user's message of about 300 characters and an answer of about 900, a part of them not ASCII. Floor and
library take turns, call by call, so that what else the machine does falls on both. Figures are microseconds; medians
count.
"""

import argparse
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pyai_sessions import (
    DiskCacheSessionStore,
    KVSessionStore,
    RedisSessionStore,
    Session,
    SessionManager,
    SQLiteSessionStore,
)
from tests.benchmarks.floors import Floor, RedisFloor, SQLiteFloor
from tests.servers import Server

TEXT = "the a session über naïve answer 会话 token agent please could water Straße window 模型 never list of why ça"
WORDS = TEXT.split()


class Texts:
    """Varied texts of a fixed seed."""

    def __init__(self) -> None:
        self._random = random.Random(20)

    def text(self, size: int) -> str:
        words: list[str] = []
        while sum(map(len, words)) + len(words) < size:
            words.append(self._random.choice(WORDS))
        return " ".join(words)

    def turn(self) -> list[dict[str, Any]]:
        return [{"role": "user", "content": self.text(300)}, {"role": "assistant", "content": self.text(900)}]


def sample(call: Callable[[], object]) -> float:
    """Return how many microseconds a call takes."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e6


def interleaved(calls: list[Callable[[], object]], times: int) -> list[list[float]]:
    """Return the samples of each call; they take turns."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(times):
        for samples, call in zip(found, calls, strict=True):
            samples.append(sample(call))
    return found


def percentile(samples: list[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


class Table:
    """Rows: what was measured, our P50, P95, P99, the floor's P50, the ratio, the ratio to reach."""

    def __init__(self) -> None:
        print(f"{'':44}{'P50':>9}{'P95':>9}{'P99':>9}{'floor':>9}{'ratio':>8}  to reach")

    def row(self, name: str, ours: list[float], floor: list[float], reach: str) -> None:
        median, below = statistics.median(ours), statistics.median(floor)
        tail = "".join(f"{percentile(ours, share):9.0f}" for share in (0.95, 0.99))
        print(f"{name:44}{median:9.0f}{tail}{below:9.0f}{median / below:8.2f}  {reach}")


def conversation(manager: SessionManager, texts: Texts, size: int) -> Session:
    session = manager.create_session("ada")
    for _ in range(size // 2):
        for each in texts.turn():
            session.add_message(**each)
    manager.save(session)
    return session


def measure_turns(table: Table, name: str, store: KVSessionStore, floor: Floor, sizes: list[int]) -> None:
    """A turn saved, and a turn appended, at each length."""
    texts, manager = Texts(), SessionManager(store)
    for size in sizes:
        session = conversation(manager, texts, size)
        session_id = session.session_id
        turns = [texts.turn() for _ in range(300)]
        ours, theirs, appended = iter(turns), iter(turns), iter(turns)

        def save(session: Session = session, ours: Any = ours) -> None:
            for each in next(ours):
                session.add_message(**each)
            manager.save(session)

        def below(theirs: Any = theirs) -> None:
            now = datetime.now(timezone.utc).isoformat()
            floor.turn([{**each, "timestamp": now} for each in next(theirs)])

        def append(session_id: str = session_id, appended: Any = appended) -> None:
            manager.append(session_id, *next(appended))

        saved, bare = interleaved([save, below], 100)
        table.row(f"{name}: save a turn at {size}", saved, bare, "1.5")
        added, bare = interleaved([append, below], 100)
        table.row(f"{name}: append a turn at {size}", added, bare, "")
    manager.clear_all()


def measure_loads(table: Table, name: str, store: KVSessionStore, floor: Floor, size: int) -> None:
    """All messages loaded, and the last 50."""
    texts, manager = Texts(), SessionManager(store)
    long, short = conversation(manager, texts, size), conversation(manager, texts, 50)
    missing = size - len(floor.load())
    for _ in range(missing // 2):
        floor.turn([{**each, "timestamp": "2026-01-01T00:00:00Z"} for each in texts.turn()])
    whole, bare = interleaved(
        [lambda: manager.get_session(long.session_id), lambda: floor.load(size)], max(5, 50_000 // size)
    )
    table.row(f"{name}: load all of {size}", whole, bare, "0.5")
    tail, fifty = interleaved(
        [lambda: manager.get_session(long.session_id, last=50), lambda: manager.get_session(short.session_id)], 100
    )
    table.row(f"{name}: last 50 of {size}, floor: of 50", tail, fifty, "1.5")
    manager.clear_all()


def measure_lists(table: Table, name: str, store: KVSessionStore, counts: list[int]) -> None:
    """A user's newest 20 sessions among few and among many."""
    manager = SessionManager(store)
    for n in range(40):
        manager.create_session("ada", metadata={"title": f"chat {n}"})
    found: list[list[float]] = []
    made = manager.count()
    for count in counts:
        for n in range(count - made):
            manager.create_session(f"user {n % 1000}")
        made = count
        found.append([sample(lambda: manager.list_sessions("ada", limit=20)) for _ in range(200)])
    table.row(f"{name}: a user's list among {counts[-1]}, floor: {counts[0]}", found[-1], found[0], "1.5")
    manager.clear_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 1_000, 10_000], help="messages in a conversation")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1_000, 10_000], help="sessions in a store")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}, {datetime.now(timezone.utc):%Y-%m-%d}")
    table = Table()
    with tempfile.TemporaryDirectory() as folder, Server("valkey-server") as server:
        path = Path(folder)
        for synchronous in ("NORMAL", "FULL"):
            store: KVSessionStore = SQLiteSessionStore(path / f"{synchronous}.db", synchronous=synchronous)
            floor = SQLiteFloor(str(path / f"floor-{synchronous}.db"), synchronous)
            measure_turns(table, f"SQLite {synchronous}", store, floor, options.sizes)
            measure_loads(table, f"SQLite {synchronous}", store, floor, max(options.sizes))
            floor.close()
            store.close()
        store, floor = DiskCacheSessionStore(path / "diskcache"), SQLiteFloor(str(path / "floor-dc.db"), "NORMAL")
        measure_turns(table, "diskcache", store, floor, options.sizes)
        measure_lists(table, "diskcache", store, options.sessions)
        floor.close()
        store.close()
        store, over = RedisSessionStore(server.url), RedisFloor(server.url)
        measure_turns(table, "Valkey", store, over, options.sizes)
        measure_loads(table, "Valkey", store, over, max(options.sizes))
        measure_lists(table, "Valkey", store, options.sessions)
        over.close()
        store.close()
        for name, store in (
            ("SQLite NORMAL", SQLiteSessionStore(path / "lists.db", synchronous="NORMAL")),
            ("memory", KVSessionStore({})),
        ):
            measure_lists(table, name, store, options.sessions)
            store.close()


if __name__ == "__main__":
    main()
