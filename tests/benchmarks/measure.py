"""Samples of calls that take turns, so that what else the machine does falls on all of them."""

import asyncio
import gc
import inspect
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)
Call = Callable[[], object]

SLOW = 10_000.0
"""Microseconds; a longer call leaves much garbage."""

_own = threading.local()


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        times: Samples of a call.
        seconds: What one call's samples may take in all; a slow call gets fewer, three at the least.
        turns: Turns of each thread that writes beside others, in a round.
        rounds: Rounds of many threads and of one, in turn.
        chat_turns: Turns of each of many chats at a time.
        peer_times: Samples of a call of a peer's, whose conversations take long to make.

    """

    times: int = 500
    seconds: float = 10.0
    turns: int = 60
    rounds: int = 31
    chat_turns: int = 10
    peer_times: int = 60


FULL = Effort()
QUICK = Effort(times=10, seconds=0.5, turns=5, rounds=5, chat_turns=2, peer_times=5)


def say(text: str) -> None:
    """Tell the progress, beside the tables."""
    print(text, file=sys.stderr, flush=True)


def finish(result: object) -> Any:
    """Return the result of a call; a coroutine is awaited on an event loop that this thread keeps."""
    if not inspect.iscoroutine(result):
        return result
    if getattr(_own, "loop", None) is None:
        _own.loop = asyncio.new_event_loop()
    return _own.loop.run_until_complete(result)


def close_loop() -> None:
    """Close this thread's event loop, and the threads that it keeps."""
    loop = getattr(_own, "loop", None)
    if loop is not None:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        _own.loop = None


def sample(call: Call) -> float:
    """Return how many microseconds a call takes; of a coroutine, what it takes inside a running event loop."""
    start = time.perf_counter()
    result = call()
    if inspect.iscoroutine(result):
        return float(finish(_timed(result)))
    return (time.perf_counter() - start) * 1e6


async def _timed(coroutine: Coroutine[Any, Any, object]) -> float:
    start = time.perf_counter()
    await coroutine
    return (time.perf_counter() - start) * 1e6


def interleaved(
    calls: Mapping[Key, Call], effort: Effort, *, times: int | None = None, freeze: bool = True
) -> dict[Key, list[float]]:
    """Return the samples of each call. They take turns, each round in another order; the first two rounds are thrown.

    With one order for all rounds, one call would always find the caches as a slow one left them, and another would not.
    A call that has taken up its seconds drops out. After a slow one its garbage is collected, lest the next call pay
    for it. *freeze* keeps what is in memory before out of the collector's sight: conversations that wait.
    """
    gc.collect()
    if freeze:
        gc.freeze()
    found: dict[Key, list[float]] = {key: [] for key in calls}
    spent = dict.fromkeys(calls, 0.0)
    order, dice = list(calls), random.Random(0)
    times = times or effort.times
    for n in range(-2, times):
        dice.shuffle(order)
        for key in order:
            if len(found[key]) >= 3 and spent[key] > effort.seconds * 1e6:
                continue
            took = sample(calls[key])
            spent[key] += took
            if n >= 0:
                found[key].append(took)
            if took > SLOW:
                gc.collect()
    gc.unfreeze()
    return found


def median(samples: list[float]) -> float:
    return statistics.median(samples)


def interval(samples: list[float]) -> tuple[float, float]:
    """Return between which samples the median of many more would lie, with 95 % confidence (by ranks)."""
    rank = max(0, int(len(samples) / 2 - 0.98 * len(samples) ** 0.5))
    return sorted(samples)[rank], sorted(samples)[-1 - rank]


def percentile(samples: list[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


def forget_peak_memory() -> None:
    """Let the peak of memory begin with what is resident now, where the system can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """Return the most memory that this process had resident, in MB."""
    try:  # not getrusage: there a child begins with the peak of the process that started it
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
