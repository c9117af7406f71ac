"""Measure one framework, in its environment, and write the samples as JSON to a file."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import Awaitable
from importlib import import_module, metadata
from itertools import count
from pathlib import Path
from typing import Any

from tests.benchmarks.frameworks import Chats, Found, Pair, Stopwatch
from tests.benchmarks.measure import SLOW
from tests.benchmarks.texts import Texts

SIZES = (10, 1_000)


class Conversations:
    """Conversations of about one length on one store: one is replaced by another before it has grown by a tenth."""

    def __init__(self, chats: Chats, watch: Stopwatch, side: str, size: int) -> None:
        self._chats = chats
        self._watch = watch
        self._side = side
        self._size = size
        self._texts = Texts(size)
        self._count = count()
        self._left = 0
        self._conversation: Any = None
        self.found = {"turn": Found(), "load": Found()}

    async def prepare(self) -> None:
        """Store the conversation that is loaded each time."""
        conversation = await self._chats.start(self._name("loaded"), self._texts.messages(self._size - 2))
        await self._chats.turn(conversation, self._texts.text(300))  # where the framework has a window, it is set then

    async def turn(self, _: object) -> tuple[float, float, float]:
        if not self._left:
            name = self._name(str(next(self._count)))
            self._conversation = await self._chats.start(name, self._texts.messages(self._size))
            self._left = max(5, self._size // 20)
        self._left -= 1
        text = self._texts.text(300)
        self._watch.reset()
        _, run, cpu = await _timed(self._chats.turn(self._conversation, text))
        return self._watch.reset(), run, cpu

    async def load(self, window: int | None) -> tuple[float, float, float]:
        found, run, cpu = await _timed(self._chats.load(self._name("loaded")))
        wanted = min(self._size, window or self._size)
        assert found == wanted, f"{self._side} loads {found} messages of {self._size}, not {wanted}"
        return run, run, cpu

    def _name(self, name: str) -> str:
        return f"{self._side}-{self._size}-{name}"


async def _timed(call: Awaitable[Any]) -> tuple[Any, float, float]:
    """Return the result of a call, the microseconds that it took, and those that this process worked meanwhile."""
    start, work = time.perf_counter(), time.process_time()
    result = await call
    return result, (time.perf_counter() - start) * 1e6, (time.process_time() - work) * 1e6


async def measure(pair: Pair, folder: Path, times: int) -> dict[str, Any]:
    """Return the samples of a pair. Theirs and ours take turns, in another order in each round."""
    watch = Stopwatch()
    sides = {"theirs": pair.theirs(folder, watch), "ours": pair.ours(folder, watch)}
    every = [(side, size, Conversations(chats, watch, side, size)) for side, chats in sides.items() for size in SIZES]
    for _, _, each in every:
        await each.prepare()
    calls = [(kind, *each) for kind in ("turn", "load") for each in every]
    dice = random.Random(0)
    gc.collect()
    gc.freeze()
    for n in range(-2, times):
        dice.shuffle(calls)
        for kind, _, _, conversations in calls:
            found = await getattr(conversations, kind)(pair.window)
            if n >= 0:
                conversations.found[kind].add(*found)
            if found[1] > SLOW:
                gc.collect()
    for chats in sides.values():
        await chats.close()
    rows = {
        f"{kind} at {size:,}": {side: vars(each.found[kind]) for side, of, each in every if of == size}
        for kind in ("turn", "load")
        for size in SIZES
    }
    return {"name": pair.name, "durability": pair.durability, "rows": rows}


def main(name: str, folder: str, reply: str, *options: str) -> None:
    module = import_module(f"tests.benchmarks.frameworks.{name}")
    times = 7 if "--quick" in options else 60
    found = [asyncio.run(measure(each, Path(folder), times)) for each in module.PAIRS]
    distribution = {"agent_framework": "agent-framework-core", "strands": "strands-agents"}.get(name, name)
    version = metadata.version(distribution.replace("_", "-"))
    Path(reply).write_text(json.dumps({"version": version, "found": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
