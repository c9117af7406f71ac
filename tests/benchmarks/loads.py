"""What it costs to load a conversation, and the end of it."""

from contextlib import closing

from pyai_sessions import SessionManager
from tests.benchmarks.families import FAMILIES, Family, Place, conversation
from tests.benchmarks.measure import Call, Effort, interleaved, say
from tests.benchmarks.report import AGAINST_FLOOR, Report, Table
from tests.benchmarks.texts import Texts

ABOUT = (
    "Microseconds to load messages as objects. *all*: the whole session; its floor reads the same rows, and decodes "
    "them with `json`. *as rows*: the floor is the conversation of the turns' floor, a row a message, as dicts. "
    "*last 50*: the floor is the load of a session of 50 messages."
)


def measure(report: Report, place: Place, sizes: list[int], effort: Effort) -> None:
    table = report.table("A load", AGAINST_FLOOR, ABOUT)
    for family in FAMILIES:
        if family.name != "SQLite FULL":  # reads as NORMAL does
            say(f"loads: {family.name}")
            _measure_family(table, family, place, sizes, effort)


def _measure_family(table: Table, family: Family, place: Place, sizes: list[int], effort: Effort) -> None:
    with closing(family.store(place, "loads")) as store, closing(family.floor(place, "loads")) as floor:
        manager, texts = SessionManager(store), Texts()
        short = conversation(manager, texts.messages(50)).session_id
        calls: dict[tuple[str, int], Call] = {("fifty", 50): lambda: manager.get_session(short)}
        for size in sizes:
            messages = texts.messages(size)
            session_id = conversation(manager, messages).session_id
            floor.turn(f"{size}", messages)
            calls["all", size] = lambda name=session_id: manager.get_session(name)
            calls["rows", size] = family.rows(place, "loads", store, session_id)
            calls["as rows", size] = lambda name=f"{size}": floor.load(name)
            calls["last", size] = lambda name=session_id: manager.get_session(name, last=50)
        # Those that load 50 take turns among themselves: 10,000 messages leave nothing in the processor's caches.
        few = {key: call for key, call in calls.items() if key[0] in ("fifty", "last")}
        found = interleaved(few, effort)
        for size in sizes:
            found |= interleaved({key: calls[key] for key in calls if key not in few and key[1] == size}, effort)
        durability = family.durability(store)
    for size in sizes:
        table.against(f"{family.name}: all of {size:,}", durability, found["all", size], found["rows", size], 0.5)
        table.against(f"{family.name}: all of {size:,} as rows", durability, found["all", size], found["as rows", size])
    for size in sizes:
        if size > 50:
            work = f"{family.name}: last 50 of {size:,}"
            table.against(work, durability, found["last", size], found["fifty", 50], 1.5)
