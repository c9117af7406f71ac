"""Functions that run event loops, and mappings that make a call wait."""

import inspect
import threading

import anyio

from pyai_sessions import KVSessionStore

DEADLINE = 60
FRAMEWORKS = ["asyncio", "trio"]


def run(function, framework="asyncio"):
    """Run an async function to its end, within a deadline."""

    async def main():
        with anyio.fail_after(DEADLINE):
            return await function()

    return anyio.run(main, backend=framework)


class Held(dict):
    """A dict whose writes wait until they are released. It counts the waiting ones."""

    def __init__(self):
        super().__init__()
        self.held = threading.Event()  # a write has begun and waits
        self.go = threading.Event()
        self.go.set()
        self.at_work = self.most = 0

    def __setitem__(self, key, value):
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        if not self.go.is_set():
            self.held.set()
            assert self.go.wait(DEADLINE)
        super().__setitem__(key, value)
        self.at_work -= 1


def sharing(mapping, together=8):
    """Return a store whose calls share round trips, as Redis calls do."""
    store = KVSessionStore(mapping)
    store._engine.trips.together = together
    return store


async def settled(value):
    """Return a value, awaited if it can be."""
    return await value if inspect.isawaitable(value) else value
