"""Tables: printed as they grow, and written as Markdown at the end."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.benchmarks.measure import median, percentile

AGAINST_FLOOR = ("work", "journal, synchronous", "P50", "P95", "P99", "floor", "ratio", "to reach", "reached")
AGAINST_PEER = ("peer: work", "its P50", "P95", "ours, P50", "P95", "ratio", "samples")


@dataclass
class Table:
    """A title, what a reader must know, and rows. Figures of time are microseconds, unless a column says otherwise."""

    title: str
    columns: Sequence[str]
    about: str = ""
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        row = tuple(map(shown, cells))
        if not self.rows:
            print(f"\n{self.title}\n{self.about}")
            self._print(tuple(self.columns))
        self.rows.append(row)
        self._print(row)

    def against(
        self, work: str, durability: str, ours: list[float], floor: list[float], reach: float | None = None
    ) -> None:
        """Add our samples beside those of a floor; *reach* is the ratio of medians that is to be reached."""
        ratio = median(ours) / median(floor)
        tail = (percentile(ours, 0.95), percentile(ours, 0.99))
        self.add(work, durability, median(ours), *tail, median(floor), *reached(ratio, reach))

    def _print(self, row: tuple[str, ...]) -> None:
        first, *others, last = row
        widths = [max(9, len(each)) for each in self.columns[1:-1]]
        cells = [cell.rjust(width) for cell, width in zip(others, widths, strict=True)]
        print(first.ljust(44), *cells, last, sep="  ", flush=True)

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", *([self.about, ""] if self.about else [])]
        lines += [f"| {' | '.join(self.columns)} |", f"|{'---|' * len(self.columns)}"]
        lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in self.rows]
        return "\n".join(lines)


def reached(ratio: float, reach: float | None) -> tuple[str, str, str]:
    """Return the cells of a ratio, of what is to be reached, and of whether it is."""
    if reach is None:
        return f"{ratio:.2f}", "", ""
    return f"{ratio:.2f}", f"{reach:g}", "yes" if ratio <= reach else "NO"


def shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


class Report:
    """All tables of a run, and the curves for the plots: under a plot's name and a line's, x to a median."""

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self.curves: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))

    def table(self, title: str, columns: Sequence[str], about: str = "") -> Table:
        self.tables.append(Table(title, columns, about))
        return self.tables[-1]

    def point(self, plot: str, line: str, x: int, samples: list[float]) -> None:
        self.curves[plot][line][x] = median(samples)

    def sections(self, measured: str) -> dict[str, str]:
        """Return the tables as Markdown by their headings, each with a line that says how it was *measured*."""
        made = {table.title: table.markdown() for table in self.tables if table.rows}
        return {title: f"{text}\n\n{measured}" for title, text in made.items()}


def merged(old: str, new: dict[str, str]) -> str:
    """Return the sections of a text, those replaced that are measured anew, and new ones at the end."""
    _, *parts = f"\n{old}".split("\n## ")
    sections = {part.partition("\n")[0]: f"## {part}".strip() for part in parts} | new
    return "\n\n".join(sections.values())
