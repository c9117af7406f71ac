"""What it costs to fork a conversation, to rewind it, and to switch between its branches, at each length of it."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from pyai_sessions import KVSessionStore, RedisSessionStore, SessionManager
from tests.benchmarks.families import FAMILIES, Place, add, conversation
from tests.benchmarks.measure import Call, Effort, interleaved, say
from tests.benchmarks.report import AGAINST_FLOOR, Report, Table
from tests.benchmarks.texts import Texts
from tests.clusters import Cluster

ABOUT = (
    "Microseconds to go on from a point of a conversation; the floor is the same with one of 100 messages. *at the "
    "end*: `fork(id)`. *20 messages back*: `fork(id, at=message_id)`. *rewind*: the last 20 are loaded, a turn is "
    "left, another one saved. *switch*: from one branch to another. Each work has conversations of its own; each fork "
    "leaves one more, and each rewind a branch, up to 32; all lengths take turns, call by call."
)
SHORT, BACK = 100, 20
REACH = 1.5

Make = Callable[[SessionManager, str], Call]
"""Returns a call that goes on from a point of a stored session, again and again."""


def at_the_end(manager: SessionManager, session_id: str) -> Call:
    return lambda: manager.fork(session_id)


def back(manager: SessionManager, session_id: str) -> Call:
    session = manager.get_session(session_id, last=BACK + 1)
    assert session is not None
    message_id = session.messages[0].message_id
    return lambda: manager.fork(session_id, message_id)


def rewind(manager: SessionManager, session_id: str) -> Call:
    turns = Texts()

    def call() -> None:
        session = manager.get_session(session_id, last=BACK)
        assert session is not None
        session.rewind(1)
        add(session, turns.turn())
        manager.save(session)

    return call


def switch(manager: SessionManager, session_id: str) -> Call:
    session = manager.get_session(session_id, last=BACK)
    assert session is not None
    session.rewind(1)
    manager.save(session)

    def call() -> None:
        session = manager.get_session(session_id, last=0)
        assert session is not None
        manager.switch(session_id, session.branches[-1], last=BACK)

    return call


WORKS: dict[str, Make] = {
    "fork at the end": at_the_end,
    f"fork {BACK} messages back": back,
    "rewind": rewind,
    "switch": switch,
}


def measure(report: Report, place: Place, sizes: list[int], effort: Effort) -> None:
    table = report.table("Forks and rewinds", AGAINST_FLOOR, ABOUT)
    for family in FAMILIES:
        say(f"forks: {family.name}")
        with closing(family.store(place, "forks")) as store:
            _measure(table, (family.name, family.durability(store)), store, sizes, effort)
    say("forks: Valkey Cluster")
    with cluster_store() as store:
        _measure(table, ("Valkey Cluster", "the servers'"), store, sizes, effort)


@contextmanager
def cluster_store() -> Iterator[KVSessionStore]:
    """Open a store on three servers of one's own."""
    with (
        Cluster("valkey-server", replicas=0) as cluster,
        cluster.client() as client,
        closing(RedisSessionStore(client=client, prefix="forks:", timeout=60)) as store,
    ):
        yield store


def _measure(table: Table, where: tuple[str, str], store: KVSessionStore, sizes: list[int], effort: Effort) -> None:
    name, durability = where
    manager, texts = SessionManager(store), Texts()
    longer = [each for each in sizes if each > SHORT]
    for work, make in WORKS.items():
        stored = {size: conversation(manager, texts.messages(size)).session_id for size in (SHORT, *longer)}
        found = interleaved({size: make(manager, session_id) for size, session_id in stored.items()}, effort)
        for size in longer:
            table.against(f"{name}: {work} of {size:,}", durability, found[size], found[SHORT], REACH)
