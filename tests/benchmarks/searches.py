"""What searches cost with an index and without, what the index takes, and what a turn pays for it."""

import random
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from pyai_sessions import SessionManager, SQLiteSessionStore
from tests.benchmarks.families import Place
from tests.benchmarks.measure import Call, Effort, forget_peak_memory, interleaved, median, peak_memory, say
from tests.benchmarks.report import Report

MESSAGES = 20
"""Messages of a session."""

USERS = 1_000

SEARCHED = (
    "Milliseconds of a search among so many messages in an SQLite file (NORMAL), 20 in a session, in words whose "
    "frequency is Zipf's; the median. *rare*: one message has it. *of a user*: the rare word, in that user's 50 "
    "sessions or fewer. *common*: all sessions have it, the newest 20 hits. *a phrase*: one message in 2,000 has it. "
    "*a prefix*: the first five letters of a word that a message in 100 has. *best*: the 20 best hits of that word, "
    "and *of a common one*. *peak*: the most memory that the process had meanwhile, in MB."
)
BUILT = (
    "`build_search_index()` of so many messages; *size* is that of the index beside the file's without it, *peak* the "
    "most memory meanwhile, in MB. A turn, in microseconds, is two messages appended, in one of 50 sessions; both "
    "files take turns."
)


class Vocabulary:
    """Texts of made-up words, of which few are common and most are rare."""

    def __init__(self, seed: int = 7) -> None:
        self._random = random.Random(seed)
        syllables = ["ka", "to", "mi", "re", "sol", "la", "ven", "tri", "no", "des", "pa", "qu", "ine", "ar", "lo"]
        made = {"".join(self._random.choices(syllables, k=self._random.randint(2, 4))) for _ in range(40_000)}
        self.words = sorted(made)
        self._random.shuffle(self.words)
        weights = [1 / (n + 1) for n in range(len(self.words))]
        self.texts = [
            " ".join(self._random.choices(self.words, weights, k=size)) for size in (50, 150) for _ in range(1_000)
        ]

    def sessions(self, count: int) -> Iterator[dict[str, object]]:
        """Yield sessions with so many messages in all."""
        for n in range(count // MESSAGES):
            contents = [self._random.choice(self.texts) for _ in range(MESSAGES)]
            contents[3] += f" unique{n}"
            messages = [
                {"role": ("user", "assistant")[place % 2], "content": each} for place, each in enumerate(contents)
            ]
            yield {"session_id": f"s{n}", "user_id": f"u{n % USERS}", "messages": messages}


def measure(report: Report, place: Place, counts: list[int], effort: Effort) -> None:
    searched = report.table(
        "Search",
        ("messages", "index", "rare", "of a user", "common", "a phrase", "a prefix", "best", "of a common one", "peak"),
        SEARCHED,
    )
    built = report.table(
        "Search index",
        ("messages", "seconds", "µs a message", "size", "peak", "a turn without", "a turn with", "ratio"),
        BUILT,
    )
    for number in counts:
        say(f"search: {number:,} messages")
        path, copy = (Path(place.folder) / f"search-{number}{name}.db" for name in ("", "-without"))
        vocabulary = Vocabulary()
        with SessionManager(SQLiteSessionStore(path, synchronous="NORMAL"), close_store=True) as manager:
            manager.import_sessions(vocabulary.sessions(number))
            queries = _queries(vocabulary, number)
            searched.add(number, "no", *_searches(manager, queries, 1))
            size = _size(manager, path)
            manager.backup(copy)
            forget_peak_memory()
            start = time.perf_counter()
            manager.build_search_index()
            seconds, peak = time.perf_counter() - start, peak_memory()
            grown = _size(manager, path) - size
            searched.add(number, "yes", *_searches(manager, queries, 5))
            with SessionManager(SQLiteSessionStore(copy, synchronous="NORMAL"), close_store=True) as without:
                turns = {"without": _turn(without, vocabulary), "with": _turn(manager, vocabulary)}
                found = interleaved(turns, effort)
        before, after = median(found["without"]), median(found["with"])
        built.add(number, seconds, seconds * 1e6 / number, grown / size, peak, before, after, after / before)


def _queries(vocabulary: Vocabulary, count: int) -> list[tuple[str, str | None, str]]:
    """Return queries, each with the user it asks for and the order."""
    middle, words = count // MESSAGES // 2, vocabulary.words
    rare = f"unique{middle}"
    return [
        (rare, None, "newest"),
        (rare, f"u{middle % USERS}", "newest"),
        (words[0], None, "newest"),
        (f'"{" ".join(vocabulary.texts[0].split()[:3])}"', None, "newest"),
        (f"{words[1000][:5]}*", None, "newest"),
        (words[1000], None, "best"),
        (words[0], None, "best"),
    ]


def _searches(manager: SessionManager, queries: list[tuple[str, str | None, str]], times: int) -> list[float]:
    """Return the median milliseconds of each query, and the peak of memory."""
    forget_peak_memory()
    found = list[float]()
    for query, user, order in queries:
        options = {} if user is None else {"user_id": user}
        samples: list[float] = []
        for _ in range(times):
            start = time.perf_counter()
            manager.search(query, order=order, **options)
            samples.append((time.perf_counter() - start) * 1e3)
        found.append(median(samples))
    return [*found, peak_memory()]


def _turn(manager: SessionManager, vocabulary: Vocabulary) -> Call:
    """Return a call that appends a question and an answer, to one session after the other."""
    numbers = count()

    def turn() -> None:
        n = next(numbers)
        question, answer = vocabulary.texts[n % 1_000], vocabulary.texts[1_000 + n % 1_000]
        messages = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
        manager.append(f"s{n % 50}", *messages)

    return turn


def _size(manager: SessionManager, path: Path) -> int:
    """Return the bytes of the file, without its log."""
    with manager.store.mapping.connections.reading() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size
