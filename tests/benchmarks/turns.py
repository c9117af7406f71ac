"""What it costs to persist a turn, at each length of the conversation."""

from collections.abc import Callable, Iterator
from contextlib import closing

from pyai_sessions import SessionManager
from tests.benchmarks.families import FAMILIES, Family, Place, add, conversation
from tests.benchmarks.floors import Floor
from tests.benchmarks.measure import Call, Effort, interleaved, say
from tests.benchmarks.report import AGAINST_FLOOR, Report, Table
from tests.benchmarks.texts import Messages, Texts

ABOUT = (
    "Microseconds to persist a turn: a message of about 300 characters and an answer of about 900. "
    "*save*: `add_message` twice and `save`, the session in hand. *append*: `append(id, …)`. "
    "*web*: load the last 50 messages, add, save; its floor loads 50 rows and inserts. "
    "All lengths of a family and its floors take turns, call by call. "
    "A conversation is replaced by another of its length before it has grown by ten messages, or by a tenth."
)
Turn = Callable[[Messages], object]
Found = dict[tuple[str, int], list[float]]


def measure(report: Report, place: Place, sizes: list[int], effort: Effort) -> None:
    table = report.table("A turn", AGAINST_FLOOR, ABOUT)
    for family in FAMILIES:
        say(f"turns: {family.name}")
        found, durability = _measure_family(family, place, sizes, effort)
        _tell(table, family, durability, found, sizes)
        for size in sizes:
            report.point("length", family.name, size, found["save", size])
            if family.reach:
                report.point("length", f"floor of {family.name}", size, found["floor", size])


def _measure_family(family: Family, place: Place, sizes: list[int], effort: Effort) -> tuple[Found, str]:
    with closing(family.store(place, "turns")) as store, closing(family.floor(place, "turns")) as floor:
        ours, bare = Ours(SessionManager(store)), Bare(floor)
        makers = {
            "save": ours.save,
            "append": ours.append,
            "web": ours.serve,
            "floor": bare.insert,
            "web floor": bare.serve,
        }
        calls = {
            (kind, size): replacing(make, size, effort.times + 2) for size in sizes for kind, make in makers.items()
        }
        found = interleaved(calls, effort)
        durability = family.durability(store)
        assert floor.durability == durability, f"{family.name}: {durability}, its floor: {floor.durability}"
        return found, durability


def _tell(table: Table, family: Family, durability: str, found: Found, sizes: list[int]) -> None:
    for kind, below in (("save", "floor"), ("append", "floor"), ("web", "web floor")):
        reach = None if kind == "web" else family.reach
        for size in sizes:
            work = f"{family.name}: {kind} at {size:,}"
            table.against(work, durability, found[kind, size], found[below, size], reach)
        if kind != "web":
            work = f"{family.name}: {kind} at {sizes[-1]:,}, floor: at {sizes[0]:,}"
            table.against(work, durability, found[kind, sizes[-1]], found[kind, sizes[0]], 1.2)


class Ours:
    """Ways to persist turns of one conversation, by this library. Each stores it, and returns what stores a turn."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    def save(self, messages: Messages) -> Turn:
        session = conversation(self._manager, messages)

        def save(turn: Messages) -> None:
            add(session, turn)
            self._manager.save(session)

        return save

    def append(self, messages: Messages) -> Turn:
        session_id = conversation(self._manager, messages).session_id
        return lambda turn: self._manager.append(session_id, *turn)

    def serve(self, messages: Messages) -> Turn:
        session_id = conversation(self._manager, messages).session_id
        return lambda turn: serve(self._manager, session_id, turn)


class Bare:
    """The same on a floor."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._made = 0

    def insert(self, messages: Messages) -> Turn:
        name = self._new(messages)
        return lambda turn: self._floor.turn(name, turn)

    def serve(self, messages: Messages) -> Turn:
        name = self._new(messages)

        def serve(turn: Messages) -> None:
            self._floor.load(name, last=50)
            self._floor.turn(name, turn)

        return serve

    def _new(self, messages: Messages) -> str:
        self._made += 1
        self._floor.turn(f"{self._made}", messages)
        return f"{self._made}"


def serve(manager: SessionManager, session_id: str, turn: Messages) -> None:
    """Do what a web server does that keeps nothing between requests."""
    session = manager.get_session(session_id, last=50)
    assert session is not None
    add(session, turn)
    manager.save(session)


def replacing(make: Callable[[Messages], Turn], size: int, times: int) -> Call:
    """Return a call that persists one turn in a conversation of about *size* messages; it can be called *times* times.

    So many conversations are made beforehand that none grows by more than ten messages, or by a tenth. They differ a
    little in length, lest all seal their pages at the same call.
    """
    texts = Texts(size)
    each = max(5, size // 20)
    turns = [make(texts.messages(size + 2 * (n % 4))) for n in range(-(-times // each))]
    made = iter([texts.turn() for _ in range(times)])

    def order() -> Iterator[Turn]:
        for turn in turns:
            for _ in range(each):
                yield turn

    next_turn = order()
    return lambda: next(next_turn)(next(made))
