"""What many threads get done: writers of sessions of their own, and readers beside a writer."""

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
from tests.benchmarks.measure import Effort, interleaved, median, say
from tests.benchmarks.report import AGAINST_FLOOR, Report
from tests.benchmarks.texts import Texts

THREADS, STORED, ROUNDS = 16, 200, 9
COLUMNS = (
    "store",
    "journal, synchronous",
    "one thread",
    "16 threads",
    "ratio",
    "floor, one",
    "floor, 16",
    "ratio to floor",
)
ABOUT = (
    f"Turns per second, all threads together: {THREADS} threads, each with a session of its own of {STORED} messages, "
    f"beside one thread that serves {THREADS} sessions in turn; the median of {ROUNDS} rounds. The floor has a "
    "connection for each thread."
)
READS = (
    f"Microseconds to load the last 50 of {STORED} messages while another thread saves turns to another session "
    "without a pause; the floor is the same load without the writer."
)
Work = Iterator[None]  # does a turn at each step


def measure(report: Report, place: Place, effort: Effort) -> None:
    table = report.table("Many threads", COLUMNS, ABOUT)
    for family in FAMILIES:
        say(f"threads: {family.name}")
        with ExitStack() as stack:
            store = stack.enter_context(closing(family.store(place, "threads")))
            floors = [stack.enter_context(closing(family.floor(place, "threads"))) for _ in range(THREADS)]
            ours = rates([partial(_ours, SessionManager(store), effort.turns)] * THREADS, effort)
            bare = rates([partial(_bare, floor, effort.turns) for floor in floors], effort)
            table.add(
                family.name,
                family.durability(store),
                *(*ours, f"{ours[1] / ours[0]:.2f}"),
                *(*bare, f"{ours[1] / bare[1]:.2f}"),
            )
    reads = report.table("Reads beside a writer", AGAINST_FLOOR, READS)
    for family in FAMILIES:
        say(f"reads: {family.name}")
        with closing(family.store(place, "reads")) as store:
            manager = SessionManager(store)
            read_id = conversation(manager, Texts().messages(STORED)).session_id
            load = lambda manager=manager, read_id=read_id: manager.get_session(read_id, last=50)  # noqa: E731
            alone = interleaved({"read": load}, effort)["read"]
            with Writer(manager):
                beside = interleaved({"read": load}, effort)["read"]
            reads.against(f"{family.name}: last 50", family.durability(store), beside, alone)


def rates(makers: list[Callable[[], Work]], effort: Effort) -> tuple[float, float]:
    """Return the turns per second of one thread and of all; each maker makes a thread's work, `effort.turns` turns."""
    one, many = [], []
    for _ in range(ROUNDS):
        one.append(
            effort.turns * THREADS / _elapsed([chain.from_iterable(zip(*[make() for make in makers], strict=True))])
        )
        many.append(effort.turns * THREADS / _elapsed([make() for make in makers]))
    return median(one), median(many)


def _elapsed(works: list[Work]) -> float:
    """Return how many seconds threads take that begin together."""
    gate = threading.Barrier(len(works) + 1)

    def run(work: Work) -> None:
        gate.wait()
        deque(work, maxlen=0)

    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(run, work) for work in works]
        gate.wait()
        start = time.perf_counter()
        for each in futures:
            each.result()
        return time.perf_counter() - start


def _ours(manager: SessionManager, count: int) -> Work:
    texts = Texts()
    session = conversation(manager, texts.messages(STORED))
    turns = [texts.turn() for _ in range(count)]

    def step(turn: list[dict[str, str]]) -> None:
        add(session, turn)
        manager.save(session)

    return map(step, turns)


def _bare(floor: Floor, count: int) -> Work:
    texts = Texts()
    return map(partial(floor.turn, uuid4().hex), [texts.turn() for _ in range(count)])


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
