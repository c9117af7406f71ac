"""Print what turns, loads, lists and more cost, as ratios against a floor and against peers measured in the same run.

    python -m tests.benchmarks                  all of it; tables and plots are written to tests/benchmarks/results
    python -m tests.benchmarks --quick          the same with small sizes, two minutes; nothing is written
    python -m tests.benchmarks --only turn load a part; nothing is written, but with --write
    python -m tests.benchmarks --sizes 10 1000  other lengths of conversations

A turn is a user's message of about 300 characters and an answer of about 900, a part of them not ASCII. What is
compared takes turns, call by call, so that what else the machine does falls on both. Figures are microseconds; medians
count. Progress goes to stderr.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import (
    adapters,
    chats,
    forks,
    imports,
    lists,
    loads,
    machine,
    million,
    plots,
    sealed,
    searches,
    shared,
    threads,
    turns,
    verbs,
    versus,
)
from tests.benchmarks.families import Place
from tests.benchmarks.measure import FULL, QUICK, close_loop
from tests.benchmarks.report import Report, merged
from tests.benchmarks.stocks import Stocks
from tests.servers import Server

RESULTS = Path(__file__).parent / "results"
SIZES, SESSIONS = [10, 100, 1_000, 10_000], [1_000, 10_000, 100_000, 1_000_000]
QUICK_SIZES, QUICK_SESSIONS = [10, 200], [1_000, 5_000]
WORKS = (
    "import",
    "turn",
    "load",
    "forks",
    "verbs",
    "peers",
    "awaited",
    "frameworks",
    "threads",
    "chats",
    "shared",
    "sealed",
    "list",
    "search",
    "million",
)
COMMAND = "python -m tests.benchmarks"


def main() -> None:
    options = parse(sys.argv[1:])
    report, effort = Report(), QUICK if options.quick else FULL
    sizes = options.sizes or (QUICK_SIZES if options.quick else SIZES)
    sessions = options.sessions or (QUICK_SESSIONS if options.quick else SESSIONS)
    messages = [5_000] if options.quick else [10_000, 100_000, 1_000_000]
    few = [200] if options.quick else [each for each in sessions if each <= 10_000]  # peers create them one by one
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Server("valkey-server") as server,
    ):
        place = Place(Path(folder), server.url)
        stocks = Stocks(place, sessions)
        works: dict[str, Callable[[], None]] = {
            "import": lambda: imports.measure(report, effort),
            "turn": lambda: turns.measure(report, place, sizes, effort),
            "load": lambda: loads.measure(report, place, sizes, effort),
            "forks": lambda: forks.measure(report, place, sizes, effort),
            "verbs": lambda: verbs.measure(report, place, effort, quick=options.quick),
            "peers": lambda: versus.measure(report, place, sizes, few, effort, awaited=False),
            "awaited": lambda: versus.measure(report, place, sizes, few, effort, awaited=True),
            "frameworks": lambda: adapters.measure(report, place, quick=options.quick),
            "threads": lambda: threads.measure(report, place, effort),
            "chats": lambda: chats.measure(report, place, effort),
            "shared": lambda: shared.measure(report, place, effort, peers="peers" in options.only),
            "sealed": lambda: sealed.measure(report, place, sizes, effort),
            "search": lambda: searches.measure(report, place, messages, effort),
            "list": lambda: lists.measure(report, stocks, effort),
            "million": lambda: million.measure(report, stocks),
        }
        about = machine.describe(place.folder, server.url)
        try:
            for name in WORKS:
                if name in options.only:
                    works[name]()
            close_loop()
        finally:  # what was measured until then
            print("", *about, sep="\n")
            whole = options.only == WORKS and not options.quick
            if options.write or whole:
                write(report, about, whole=whole)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=WORKS, default=WORKS, metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--sizes", type=int, nargs="+", help="messages in a conversation, even numbers")
    parser.add_argument("--sessions", type=int, nargs="+", help="sessions in a store, 1,000 or more")
    parser.add_argument("--quick", action="store_true", help="small sizes and few samples; writes nothing")
    parser.add_argument("--write", action="store_true", help="write a partial run too: its tables replace the former")
    return parser.parse_args(arguments)


def write(report: Report, about: list[str], *, whole: bool) -> None:
    """Write the tables and the plots; of a run that is not *whole* its tables, in the place of the former ones."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "results.md"
    # The lengths' lines are of several works: a part would draw some of them alone.
    plots.draw({name: each for name, each in report.curves.items() if whole or name != "length"}, RESULTS)
    measured = f"*{about[0]}, `{' '.join([COMMAND, *sys.argv[1:]])}`*"
    old = "" if whole or not path.exists() else path.read_text()
    lines = ["# Results", "", *(f"- {each}" for each in about[1:]), ""]
    lines += [f"![{each.stem}]({each.name})\n" for each in sorted(RESULTS.glob("*.png"))]
    path.write_text("\n".join([*lines, merged(old, report.sections(measured)), ""]))
    print(f"\nwritten to {RESULTS}")


if __name__ == "__main__":
    main()
