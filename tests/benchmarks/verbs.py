"""What calls cost that need no session in hand: a change of one, a page of its messages, one message; many tenants."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count, cycle
from pathlib import Path
from typing import Any

from pyai_sessions import AsyncSessionManager, Event, KVSessionStore, SessionManager
from tests.benchmarks.families import FAMILIES, Family, Place, add, conversation
from tests.benchmarks.measure import Call, Effort, interleaved, median, percentile, say
from tests.benchmarks.report import Report, Table
from tests.benchmarks.texts import Messages, Texts
from tests.benchmarks.turns import Turn, replacing

COLUMNS = ("work", "P50", "P95", "beside", "its P50", "ratio", "trips", "KB read", "KB written")
CHANGES = (
    "Microseconds to change a session: two messages and a key of its state. *update*: `manager.update(id, …)`, without "
    "the session. *save*: the session in hand. *append*: the two messages alone. *load, save*: the last 50 messages "
    "are loaded, then as *save*. Trips and bytes are those that `on_event` told of the last call."
)
READS = (
    "Microseconds to read 50 messages, or one, out of the middle of a long conversation, each time somewhere else; "
    "beside the newest 50. *scrolled*: the page before one that was returned before, as a chat window asks for it."
)
RATINGS = (
    "Microseconds to change the metadata of one message of a long conversation, of the first and of the last. *save*: "
    "the session in hand, all of its messages loaded before, which is not counted."
)
TENANTS = (
    "As many sessions: of one tenant, and of a tenant each, whose manager is a namespace of the first. Each session is "
    "created, a turn is saved, and its user's sessions are counted; *awaited*: all at the same time. Threads and open "
    "files are the most at any time."
)
SIZE, MIDDLE, RATED = 1_000, 100_000, 10_000
KINDS = ("memory", "SQLite NORMAL", "SQLite FULL", "Valkey")


def measure(report: Report, place: Place, effort: Effort, *, quick: bool = False) -> None:
    families = [each for each in FAMILIES if each.name in KINDS]
    shrink = 50 if quick else 1
    table = report.table("A session changed without loading it", COLUMNS, CHANGES)
    for family in families:
        _each(table, family, place, effort, size=SIZE, make=_changes)
    table = report.table("Messages out of the middle", COLUMNS, READS)
    for family in families:
        if family.name != "SQLite FULL":  # it reads as NORMAL does
            _each(table, family, place, effort, size=MIDDLE // shrink, make=_reads)
    table = report.table("One message rated", COLUMNS, RATINGS)
    for family in families:
        _each(table, family, place, effort, size=RATED // shrink, make=_ratings)
    columns = ("store", "sessions", "tenants", "threads", "open files", "KB a session", "µs a session", "ratio")
    table = report.table("Many tenants", columns, TENANTS)
    for family in families:
        say(f"tenants: {family.name}")
        for awaited in (False, True):
            _tenants(table, family, place, 1_000 // shrink, awaited=awaited)


Make = Callable[["Told", Texts, int, Effort], tuple[dict[str, Call], list[tuple[str, str]]]]
"""Returns calls by name, and which of them stand beside which."""


class Told:
    """A manager, and the same with a hook that keeps what the last call cost."""

    def __init__(self, store: KVSessionStore) -> None:
        self.manager = SessionManager(store)
        self.watched = SessionManager(store, on_event=self._keep)
        self.cost = ("", "", "")

    def _keep(self, event: Event) -> None:
        if event.name == "ended":
            read, written = (f"{each / 1024:.1f}" for each in (event.bytes_read, event.bytes_written))
            self.cost = (str(event.trips), read, written)

    def cost_of(self, call: Call, calls: int = 3) -> tuple[str, str, str]:
        """Return what the last of some calls costs. The manager that it makes them by is told of events meanwhile."""
        manager, self.manager = self.manager, self.watched
        for _ in range(calls):
            call()
        self.manager = manager
        return self.cost


def _each(table: Table, family: Family, place: Place, effort: Effort, *, size: int, make: Make) -> None:
    say(f"{table.title}: {family.name}")
    with closing(family.store(place, make.__name__.strip("_"))) as store:
        told = Told(store)
        calls, pairs = make(told, Texts(size), size, effort)
        found = interleaved(calls, effort)
        for work, beside in pairs:
            ours, other = found[work], found[beside]
            ratio = f"{median(ours) / median(other):.2f}"
            figures = (median(ours), percentile(ours, 0.95), beside, median(other), ratio)
            table.add(f"{family.name}: {work} at {size:,}", *figures, *told.cost_of(calls[work]))


def _changes(told: Told, _texts: Texts, size: int, effort: Effort) -> tuple[dict[str, Call], list[tuple[str, str]]]:
    steps = count()

    def update(messages: Messages) -> Turn:
        session_id = conversation(told.manager, messages).session_id
        return lambda turn: told.manager.update(session_id, *turn, state={"step": next(steps)})

    def append(messages: Messages) -> Turn:
        session_id = conversation(told.manager, messages).session_id
        return lambda turn: told.manager.append(session_id, *turn)

    def save(messages: Messages) -> Turn:
        session = conversation(told.manager, messages)
        return lambda turn: _save(told, session, turn, next(steps))

    def load_and_save(messages: Messages) -> Turn:
        session_id = conversation(told.manager, messages).session_id
        return lambda turn: _save(told, told.manager.get_session(session_id, last=50), turn, next(steps))

    makers = {"update": update, "append": append, "save": save, "load, save": load_and_save}
    times = effort.times + 2 + 12  # those that are thrown, and those whose cost is told
    calls = {name: replacing(make, size, times) for name, make in makers.items()}
    return calls, [("update", "save"), ("update", "append"), ("update", "load, save")]


def _save(told: Told, session: Any, turn: Messages, step: int) -> None:
    add(session, turn)
    session.set_state("step", step)
    told.manager.save(session)


def _long(told: Told, texts: Texts, size: int) -> tuple[str, list[str]]:
    """Return the id of a stored conversation, and those of its messages."""
    session = told.manager.create_session("ada")
    for _ in range(0, size, 1_000):
        add(session, texts.messages(min(size, 1_000)))
        told.manager.save(session)
    return session.session_id, [each.message_id for each in session.messages]


def _reads(told: Told, texts: Texts, size: int, _effort: Effort) -> tuple[dict[str, Call], list[tuple[str, str]]]:
    session_id, ids = _long(told, texts, size)
    dice = random.Random(size)
    middle = ids[size // 10 : -size // 10]
    anywhere = cycle(dice.sample(middle, min(len(middle), 5_000)))
    page = [told.manager.get_messages(session_id, before=ids[size // 2])]

    def scroll() -> None:
        if not page[0].has_older:
            page[0] = told.manager.get_messages(session_id, before=ids[size // 2])
        page[0] = told.manager.get_messages(session_id, before=page[0][0])

    calls: dict[str, Call] = {
        "the newest 50": lambda: told.manager.get_messages(session_id, limit=50),
        "50 before": lambda: told.manager.get_messages(session_id, before=next(anywhere), limit=50),
        "50 after": lambda: told.manager.get_messages(session_id, after=next(anywhere), limit=50),
        "50 scrolled": scroll,
        "get_message": lambda: told.manager.get_message(session_id, next(anywhere)),
    }
    return calls, [(each, "the newest 50") for each in calls]


def _ratings(told: Told, texts: Texts, size: int, _effort: Effort) -> tuple[dict[str, Call], list[tuple[str, str]]]:
    stars = count()
    calls: dict[str, Call] = {}
    for which, place in (("first", 0), ("last", -1)):
        session_id, ids = _long(told, texts, size)
        in_hand = told.manager.get_session(session_id)

        def save(session: Any = in_hand, message_id: str = ids[place]) -> None:
            session.replace_message(message_id, metadata={"stars": next(stars)})
            told.manager.save(session)

        calls[f"save, the {which} rated"] = save
        if hasattr(SessionManager, "replace_message"):
            session_id, ids = _long(told, texts, size)

            def rate(session_id: str = session_id, message_id: str = ids[place]) -> None:
                told.manager.replace_message(session_id, message_id, metadata={"stars": next(stars)})

            calls[f"replace_message, the {which}"] = rate
    beside = "save, the last rated"
    return calls, [(each, beside) for each in calls]


def _tenants(table: Table, family: Family, place: Place, many: int, *, awaited: bool) -> None:
    costs: list[float] = []
    for tenants in (1, many):
        with closing(family.store(place, f"tenants-{tenants}-{awaited}")) as store:
            turns, before, threads = Texts().messages(2 * many), _resident(), threading.active_count()
            names = [f"tenant {n % tenants}" for n in range(many)]
            seen = [(0, 0)]

            def look(seen: list[tuple[int, int]] = seen, threads: int = threads) -> None:
                seen.append((threading.active_count() - threads, len(list(Path("/proc/self/fd").iterdir()))))

            start = time.perf_counter()
            if awaited:
                asyncio.run(_serve_awaited(store, names, turns, look))
            else:
                _serve(SessionManager(store), names, turns, look)
            costs.append((time.perf_counter() - start) * 1e6 / many)
            most = [max(each) for each in zip(*seen, strict=True)]
            kind = f"{family.name}{', awaited' if awaited else ''}"
            grown = (_resident() - before) * 1024 / many
            table.add(kind, many, tenants, *most, grown, costs[-1], f"{costs[-1] / costs[0]:.2f}")


def _serve(manager: SessionManager, names: list[str], turns: Messages, look: Callable[[], None]) -> None:
    for n, name in enumerate(names):
        own = manager.namespace(name)
        conversation(own, turns[2 * n : 2 * n + 2])
        assert own.count("ada") > 0
        look()


async def _serve_awaited(store: KVSessionStore, names: list[str], turns: Messages, look: Callable[[], None]) -> None:
    manager = AsyncSessionManager(store)

    async def serve(n: int, name: str) -> None:
        own = manager.namespace(name)
        session = await own.create_session("ada")
        add(session, turns[2 * n : 2 * n + 2])
        await own.save(session)
        look()
        assert await own.count("ada") > 0

    await asyncio.gather(*(serve(n, name) for n, name in enumerate(names)))
    await manager.close()


def _resident() -> float:
    """Return how many MB this process has resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1024 / 1024
