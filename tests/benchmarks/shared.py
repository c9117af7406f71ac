"""What becomes of the turns of eight threads that write one session."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyai_sessions import SessionError, SessionManager
from tests.benchmarks.families import FAMILIES, Family, Place, conversation
from tests.benchmarks.measure import Effort, close_loop, finish, say
from tests.benchmarks.peers import installed
from tests.benchmarks.peers import serve as serve_peer
from tests.benchmarks.report import Report
from tests.benchmarks.texts import Messages, Texts
from tests.benchmarks.turns import serve

THREADS, STORED = 8, 20
COLUMNS = ("who", "journal, synchronous", "turns/s", "turns", "raised", "lost", "torn", "apart", "what it is")
ABOUT = (
    f"{THREADS} threads on one session, each as a request that keeps nothing: reload the newest messages, add, save. "
    "Each has connections of its own, as a process would; nobody tries again. *raised*: turns whose save raised. "
    "*lost*: turns that were reported as stored, and are not there. *torn*: turns with one message of two. *apart*: "
    "turns whose answer does not follow its message. *turns/s*: of those that are there whole."
)
Serve = Callable[[Messages], object]
Serving = Callable[[], AbstractContextManager[Serve]]


@dataclass
class Outcome:
    """What threads reported, beside what is stored."""

    seconds: float
    asked: int
    stored: list[str]
    acknowledged: set[str]

    def row(self) -> tuple[object, ...]:
        where = {text.split(" ", 1)[0]: n for n, text in enumerate(self.stored) if text.startswith("#")}
        names = {name[1:-1] for name in where}
        whole = {each for each in names if f"#{each}u" in where and f"#{each}a" in where}
        torn = len(names) - len(whole)
        apart = sum(where[f"#{each}a"] != where[f"#{each}u"] + 1 for each in whole)
        lost = len(self.acknowledged - names)
        return len(whole) / self.seconds, self.asked, self.asked - len(self.acknowledged), lost, torn, apart


def measure(report: Report, place: Place, effort: Effort, *, peers: bool) -> None:
    table = report.table("Eight threads on one session", COLUMNS, ABOUT)
    for family in FAMILIES:
        say(f"shared: {family.name}")
        outcome, durability = _ours(family, place, effort)
        table.add(f"ours, {family.name}", durability, *outcome.row(), "reload with `last=50`, `save` merges")
        if family.name != "memory":  # no transaction: the floor of memory is for one thread
            outcome, durability = _bare(family, place, effort)
            table.add(f"floor of {family.name}", durability, *outcome.row(), "reads 50 rows and inserts two")
    for peer in installed() if peers else ():
        say(f"shared: {peer.name}")
        outcome, durability = _peer(peer, place, effort)
        table.add(peer.name, durability, *outcome.row(), peer.note)


def _ours(family: Family, place: Place, effort: Effort) -> tuple[Outcome, str]:
    with closing(family.store(place, "shared")) as store:
        manager = SessionManager(store)
        session_id = conversation(manager, Texts().messages(STORED)).session_id

        @contextmanager
        def serving() -> Iterator[Serve]:
            with nullcontext(store) if family.name == "memory" else closing(family.store(place, "shared")) as own:
                yield partial(serve, SessionManager(own), session_id)

        def load() -> list[str]:
            session = manager.get_session(session_id)
            assert session is not None
            return [str(each.content) for each in session.messages]

        return _run(serving, load, effort), family.durability(store)


def _bare(family: Family, place: Place, effort: Effort) -> tuple[Outcome, str]:
    with closing(family.floor(place, "shared")) as floor:
        floor.turn("s", Texts().messages(STORED))

        @contextmanager
        def serving() -> Iterator[Serve]:
            with closing(family.floor(place, "shared")) as own:
                yield lambda turn: (own.load("s", last=50), own.turn("s", turn))

        return _run(serving, lambda: [each["content"] for each in floor.load("s")], effort), floor.durability


def _peer(kind: type[Any], place: Place, effort: Effort) -> tuple[Outcome, str]:
    first = kind(place)
    conversation = finish(first.create("shared", "ada"))
    for _ in range(STORED // 2):
        finish(conversation.turn(Texts().turn()))

    @contextmanager
    def serving() -> Iterator[Serve]:
        own = kind(place)
        try:
            yield lambda turn: finish(serve_peer(own, "shared", "ada", turn))
        finally:
            finish(own.close())
            close_loop()

    outcome = _run(serving, lambda: finish(first.open("shared", "ada").load()), effort)
    durability = finish(first.durability())
    finish(first.close())
    return outcome, durability


def _write(serve: Serve, thread: int, effort: Effort) -> set[str]:
    """Persist turns one after the other; return the names of those that were reported as stored."""
    texts, done = Texts(), set()
    for n in range(effort.turns):
        name = f"{thread}-{n}"
        turn = [{**each, "content": f"#{name}{each['role'][0]} {each['content']}"} for each in texts.turn()]
        try:
            serve(turn)
        except Exception as err:  # noqa: BLE001  whatever a peer raises counts, once it is told
            if n == 0 or isinstance(err, SessionError):
                say(f"  {type(err).__name__}: {str(err)[:100]}")
        else:
            done.add(name)
    return done


def _run(serving: Serving, load: Callable[[], list[str]], effort: Effort) -> Outcome:
    """Let threads begin together, each once it has opened what it writes by."""
    gate = threading.Barrier(THREADS + 1, timeout=60)

    def work(thread: int) -> set[str]:
        with serving() as serve:
            gate.wait()
            return _write(serve, thread, effort)

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(work, thread) for thread in range(THREADS)]
        gate.wait()
        start = time.perf_counter()
        acknowledged = set().union(*(each.result() for each in futures))
        seconds = time.perf_counter() - start
    return Outcome(seconds, THREADS * effort.turns, load(), acknowledged)
