"""What lists, turns, counts and archiving cost among few sessions and among many."""

import time
from contextlib import ExitStack, closing
from itertools import cycle

from pyai_sessions import KVSessionStore, SessionManager
from tests.benchmarks.families import Family, add
from tests.benchmarks.measure import Call, Effort, interleaved, median, say
from tests.benchmarks.report import AGAINST_FLOOR, Report, Table, reached
from tests.benchmarks.stocks import ACTIVE, LISTED, NOW, Stocks, idle_days, steps
from tests.benchmarks.texts import Texts

WORKS = ("a user's list", "any user's list", "a user's list, where=", "turn", "count of a user", "count of all")
ABOUT = (
    f"Microseconds, where so many sessions are stored, of one turn each; the floor is ours among the fewest. All sizes "
    f"take turns, call by call. {ACTIVE} users of 40 sessions each, who are in every store, take turns too; *any "
    "user's list* takes another of all users each time, who are far apart. *turn*: `add_message` twice and `save`."
)
COLUMNS = ("store", "sessions", "archived", "ms", "µs a session", "ratio", "to reach", "reached")
ARCHIVED = (
    "`archive_inactive` where so many sessions are due, among so many that are not; the median of three. The ratio is "
    "to what a session costs in the first row of the store: it is to be proportional to those due, whatever the others."
)


def measure(report: Report, stocks: Stocks, effort: Effort) -> None:
    table = report.table("Among many sessions", AGAINST_FLOOR, ABOUT)
    archived: dict[str, dict[tuple[int, int], float]] = {}
    for kind in stocks.families:
        with ExitStack() as stack:
            stores: dict[int, KVSessionStore] = {}
            if kind.name == "memory":
                stores = {count: stocks.in_memory(count) for count in stocks.counts}
            else:
                stores = {each.count: stack.enter_context(closing(each.open(stocks.place))) for each in stocks.of(kind)}
            say(f"lists: {kind.name}")
            managers = {count: SessionManager(store, clock=lambda: NOW) for count, store in stores.items()}
            _measure_family(report, table, kind, managers, effort)
            archived[kind.name] = _archive(managers)
    table = report.table("archive_inactive", COLUMNS, ARCHIVED)
    for name, costs in archived.items():
        first = 0.0
        for (count, due), seconds in costs.items():
            cost = seconds * 1e6 / due
            first = first or cost
            table.add(name, count, due, seconds * 1e3, cost, *reached(cost / first, 1.5))


def _measure_family(
    report: Report, table: Table, kind: Family, managers: dict[int, SessionManager], effort: Effort
) -> None:
    calls: dict[tuple[str, int], Call] = {}
    for count, manager in managers.items():
        calls["a user's list", count] = _listing(manager, ACTIVE, "active")
        calls["a user's list, where=", count] = _listing(manager, ACTIVE, "active", where={"channel": "web"})
        calls["turn", count] = _saving(manager, effort)
        calls["count of a user", count] = lambda manager=manager: manager.count("active 1")
        calls["count of all", count] = lambda manager=manager: manager.count()
    many, few = max(managers), min(managers)
    calls["any user's list", many] = _listing(managers[many], many // LISTED - ACTIVE, "user")
    found = interleaved(calls, effort, freeze=False)  # what a store keeps in memory is its own
    durability = kind.durability(next(iter(managers.values())).store)
    for work, count in sorted(calls, key=lambda each: WORKS.index(each[0])):
        reach = 1.5 if work in ("a user's list", "turn") and count > few else None
        floor = found.get((work, few)) or found["a user's list", few]
        table.against(f"{kind.name}: {work} among {count:,}", durability, found[work, count], floor, reach)
    for count in managers:
        report.point("sessions: list", kind.name, count, found["a user's list", count])
        report.point("sessions: turn", kind.name, count, found["turn", count])


def _listing(manager: SessionManager, users: int, name: str, **options: object) -> Call:
    """Return a call that lists the newest 20 sessions of one user after the other; they are far apart."""
    turns = cycle([f"{name} {n * 7919 % users}" for n in range(min(users, 1_000))])
    return lambda: manager.list_sessions(next(turns), limit=20, **options)


def _saving(manager: SessionManager, effort: Effort) -> Call:
    """Return a call that persists a turn, each in another session of an active user."""
    texts = Texts()
    ids = [each.session_id for n in range(ACTIVE) for each in manager.list_sessions(f"active {n}", limit=20)]
    loaded = cycle([manager.get_session(each) for each in ids[:: max(1, len(ids) // 100)]])
    turns = iter([texts.turn() for _ in range(effort.times + 2)])

    def save() -> None:
        session = next(loaded)
        assert session is not None
        add(session, next(turns))
        manager.save(session)

    return save


def _archive(managers: dict[int, SessionManager]) -> dict[tuple[int, int], float]:
    """Return the median of the seconds that archiving takes, by how many sessions there are and how many are due."""
    took: dict[tuple[int, int], list[float]] = {}
    for count, manager in managers.items():
        for step, due in enumerate(steps(count)):
            start = time.perf_counter()
            done = manager.archive_inactive(days=idle_days(step) - 2)
            took.setdefault((count, due), []).append(time.perf_counter() - start)
            assert done == due, f"{done} of {due} were archived"
    return {each: median(samples) for each, samples in took.items()}
