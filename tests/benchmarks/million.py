"""What the import of very many sessions takes, the rebuilding of their indexes, and the memory to serve them."""

from tests.benchmarks.measure import say
from tests.benchmarks.report import Report, Table, reached
from tests.benchmarks.stocks import Stock, Stocks, in_process

FLAT = "ratio", "to reach", "reached"
MEMORY = (
    "*grew* is by how much the process's peak memory grew meanwhile, *peak* is all that it had, in MB; the ratio is of "
    "the peak to that of the fewest sessions."
)
IMPORTED = (
    "`import_sessions` of sessions of one turn, from a generator, in a process of its own (memory: in this one). "
    "*making* are the seconds that the generator took of it; *made* is the pace without them. "
)
REBUILT = "`reindex()` in a process of its own. "
SERVED = "A process of its own opens the store and serves 400 users: lists, loads, saves. "


def measure(report: Report, stocks: Stocks) -> None:
    kinds = [each for each in stocks.families if each.name != "memory"]
    made = [stock for kind in kinds for stock in stocks.of(kind)]
    columns = ("store", "sessions", "seconds", "making", "a second", "made", "grew", "peak", *FLAT)
    table = report.table("Import", columns, IMPORTED + MEMORY)
    for each in made:
        _add(table, each, each.peak, each.seconds, each.making, *_paces(each), each.grown)
    each = stocks.told_in_memory(stocks.counts[-1])
    table.add(each.family, each.count, each.seconds, each.making, *_paces(each), each.grown, each.peak, "", "", "")
    table = report.table(
        "reindex", ("store", "sessions", "seconds", "a second", "grew", "peak", *FLAT), REBUILT + MEMORY
    )
    for each in made:
        if each.count not in (min(stocks.counts), max(stocks.counts)):
            continue
        say(f"reindex: {each.family}, {each.count:,} sessions")
        told = in_process("reindex", stocks.place, each.family, each.name, each.count)
        _add(table, each, told["peak"], told["seconds"], each.count / told["seconds"], told["grown"])
    table = report.table("Memory to serve", ("store", "sessions", "grew", "peak", *FLAT), SERVED + MEMORY)
    for each in made:
        say(f"serve: {each.family}, {each.count:,} sessions")
        told = in_process("serve", stocks.place, each.family, each.name, each.count)
        _add(table, each, told["peak"], told["grown"])


def _paces(stock: Stock) -> tuple[float, float]:
    return stock.count / stock.seconds, stock.count / max(1e-9, stock.seconds - stock.making)


def _add(table: Table, stock: Stock, peak: float, *figures: float) -> None:
    """Add a row, its peak of memory beside that of the first row of the store."""
    at = len(figures) + 2
    first = next((float(row[at]) for row in table.rows if row[0] == stock.family), peak)
    table.add(stock.family, stock.count, *figures, f"{peak:.1f}", *reached(peak / first, 1.2))
