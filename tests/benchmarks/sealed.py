"""What encryption and compression cost: turns and loads, against the plain store of the same family."""

import os
from contextlib import ExitStack, closing
from typing import Any

from pyai_sessions import Encrypted, KVSessionStore, SessionManager
from tests.benchmarks.families import FAMILIES, Family, Place, conversation
from tests.benchmarks.measure import Call, Effort, interleaved, say
from tests.benchmarks.report import Report, Table
from tests.benchmarks.texts import Texts
from tests.benchmarks.turns import Ours, replacing

COLUMNS = ("work", "journal, synchronous", "P50", "P95", "P99", "plain", "ratio", "to reach", "reached")
ABOUT = (
    "Microseconds on an `Encrypted` mapping, against the same store without. *compressed*: `compress=True`. *save* and "
    "*append* are those of the turns' table, *all* loads the whole session. *bytes* are those of all its documents; "
    "the texts are made of few words, so what people write is compressed less."
)
WAYS: dict[str, dict[str, Any] | None] = {"plain": None, "encrypted": {}, "compressed": {"compress": True}}
KEYS = {"index": os.urandom(32), "2026-01": os.urandom(32)}


def measure(report: Report, place: Place, sizes: list[int], effort: Effort) -> None:
    table = report.table("Encryption", COLUMNS, ABOUT)
    for family in FAMILIES:
        if family.name in ("SQLite NORMAL", "SQLite FULL", "Valkey"):
            say(f"encryption: {family.name}")
            _measure_family(table, family, place, sizes, effort)


def _measure_family(table: Table, family: Family, place: Place, sizes: list[int], effort: Effort) -> None:
    size = sizes[-1]
    calls: dict[tuple[str, str], Call] = {}
    loads: dict[tuple[str, str], Call] = {}
    stored: dict[str, int] = {}
    with ExitStack() as stack:
        for way, options in WAYS.items():
            below = stack.enter_context(closing(family.store(place, f"sealed-{way}")))
            kept = below.mapping if options is None else Encrypted(below.mapping, KEYS, **options)
            manager = SessionManager(stack.enter_context(closing(KVSessionStore(kept, timeout=60))))
            calls[way, "save"] = replacing(Ours(manager).save, size, effort.times + 2)
            calls[way, "append"] = replacing(Ours(manager).append, size, effort.times + 2)
            name = conversation(manager, Texts().messages(size)).session_id
            loads[way, "all"] = lambda manager=manager, name=name: manager.get_session(name)
            stored[way] = sum(len(below.mapping[key].encode()) for key in below.mapping if f"/{name}" in key)
            durability = family.durability(below)
        found = interleaved(calls, effort) | interleaved(loads, effort)
    for way in ("encrypted", "compressed"):
        for work in ("save", "append", "all"):
            text = f"{family.name}, {way}: {work} at {size:,}"
            table.against(text, durability, found[way, work], found["plain", work])
        ratio = stored[way] / stored["plain"]
        table.add(
            f"{family.name}, {way}: bytes of {size:,}",
            "-",
            stored[way],
            "",
            "",
            stored["plain"],
            f"{ratio:.2f}",
            "",
            "",
        )
