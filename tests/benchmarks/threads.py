"""What many threads get done: writers of sessions of their own, and readers beside a writer."""

import gc
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from uuid import uuid4

from pyai_sessions import SessionManager
from tests.benchmarks.families import FAMILIES, Place, add, conversation
from tests.benchmarks.floors import Floor
from tests.benchmarks.measure import Effort, interleaved, interval, median, say
from tests.benchmarks.report import AGAINST_FLOOR, Report
from tests.benchmarks.texts import Messages, Texts

THREADS, STORED = 16, 200
COLUMNS = (
    "store",
    "journal, synchronous",
    "one thread",
    "16 threads",
    "ratio",
    "95 %",
    "a store each",
    "95 %",
    "floor",
    "95 %",
)
ABOUT = (
    f"Turns per second, all threads together: {THREADS} threads, each with a session of its own of {STORED} messages, "
    f"beside one thread that serves {THREADS} sessions in turn. The ratios are medians of rounds in which both take "
    "turns, with the interval that holds the median with 95 % confidence. *a store each*: the same, where each session "
    "lies in a store of its own, so that the threads share nothing but the interpreter and the disk. *floor*: the same "
    "on the floor of a turn, with a connection for each thread."
)
READS = (
    f"Microseconds to load the last 50 of {STORED} messages while another thread saves turns to another session "
    "without a pause; the floor is the same load without the writer."
)
Work = Iterator[None]  # does a turn at each step
Makers = list[Callable[[], Work]]  # each makes a thread's work of a round


def measure(report: Report, place: Place, effort: Effort) -> None:
    table = report.table("Many threads", COLUMNS, ABOUT)
    texts = Texts()
    stored, turns = texts.messages(STORED), [texts.turn() for _ in range(effort.turns)]
    for family in FAMILIES:
        say(f"threads: {family.name}")
        with ExitStack() as stack:
            store, *apart = [
                stack.enter_context(closing(family.store(place, f"threads{n}"))) for n in range(THREADS + 1)
            ]
            floors = [stack.enter_context(closing(family.floor(place, "threads"))) for _ in range(THREADS)]
            works = {
                "ours": [partial(_ours, SessionManager(store), stored, turns)] * THREADS,
                "apart": [partial(_ours, SessionManager(each), stored, turns) for each in apart],
                "floor": [partial(_bare, each, turns) for each in floors],
            }
            one, many = rates(works, effort)
            cells: list[object] = [median(one["ours"]), median(many["ours"])]
            for name in works:
                ratios = [after / before for before, after in zip(one[name], many[name], strict=True)]
                low, high = interval(ratios)
                cells += [f"{median(ratios):.2f}", f"{low:.2f} to {high:.2f}"]
            table.add(family.name, family.durability(store), *cells)
    reads = report.table("Reads beside a writer", AGAINST_FLOOR, READS)
    for family in FAMILIES:
        say(f"reads: {family.name}")
        with closing(family.store(place, "reads")) as store:
            manager = SessionManager(store)
            read_id = conversation(manager, stored).session_id
            load = lambda manager=manager, read_id=read_id: manager.get_session(read_id, last=50)  # noqa: E731
            alone = interleaved({"read": load}, effort)["read"]
            with Writer(manager):
                beside = interleaved({"read": load}, effort)["read"]
            reads.against(f"{family.name}: last 50", family.durability(store), beside, alone)


def rates(works: dict[str, Makers], effort: Effort) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return by name the turns per second of one thread that does all works in turn, and of a thread for each."""
    one: dict[str, list[float]] = {name: [] for name in works}
    many: dict[str, list[float]] = {name: [] for name in works}
    order = [(name, found) for name in works for found in (one, many)]
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(effort.rounds):
            order.append(order.pop(0))
            for name, found in order:
                made = [make() for make in works[name]]
                gc.collect()
                took = _elapsed(pool, made if found is many else [chain.from_iterable(zip(*made, strict=True))])
                found[name].append(effort.turns * THREADS / took)
    return one, many


def _elapsed(pool: ThreadPoolExecutor, works: list[Work]) -> float:
    """Return the seconds from when all threads are ready, which begin together, to when the last is done."""
    begun: list[float] = []
    gate = threading.Barrier(len(works), action=lambda: begun.append(time.perf_counter()))

    def run(work: Work) -> float:
        gate.wait()
        deque(work, maxlen=0)
        return time.perf_counter()

    return max([each.result() for each in [pool.submit(run, work) for work in works]]) - begun[0]


def _ours(manager: SessionManager, stored: Messages, turns: list[Messages]) -> Work:
    session = conversation(manager, stored)

    def step(turn: Messages) -> None:
        add(session, turn)
        manager.save(session)

    return map(step, turns)


def _bare(floor: Floor, turns: list[Messages]) -> Work:
    return map(partial(floor.turn, uuid4().hex), turns)


class Writer:
    """A thread that saves turns to a session of its own, as long as the block lasts."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        texts = Texts()
        session = conversation(self._manager, texts.messages(10))
        while not self._over.is_set():
            add(session, texts.turn())
            self._manager.save(session)
