"""AsyncSessionManager behind the methods of a sync one, and the awaits at which its task can be cancelled."""

import asyncio
import gc
from contextlib import contextmanager, suppress

from pyai_sessions import AsyncSessionManager
from tests.faults.points import Stop


class Awaited:
    """An AsyncSessionManager with the methods of a sync one: each call runs in one loop until it has ended.

    An exception that interrupts the loop cancels the call's task, and is raised when the task has ended, as
    `asyncio.run` does. With *anew* the loop is then closed, and the next calls run in another. With *leaves* the task
    is left in the closed loop.
    """

    def __init__(self, manager, *, anew=False, leaves=False):
        self.manager = manager
        self.store = manager.store
        self.anew, self.leaves = anew, leaves
        self.loop = asyncio.new_event_loop()
        self.steps = None

    def __getattr__(self, name):
        method = getattr(self.manager, name)
        return lambda *arguments, **options: self.run(method(*arguments, **options))

    def run(self, coroutine):
        """Run a coroutine in the loop, and return its result."""
        task = self.loop.create_task(coroutine if self.steps is None else self.steps.follow(coroutine))
        try:
            return self.loop.run_until_complete(task)
        except Stop:
            self._end(task)
            raise

    def _end(self, task):
        if not (self.leaves or task.done()):
            task.cancel()
            with suppress(asyncio.CancelledError, Stop):
                self.loop.run_until_complete(asyncio.wait([task]))
        if self.anew:
            self.loop.close()
            self.loop = asyncio.new_event_loop()


@contextmanager
def awaited(manager, **options):
    """Return the async manager of a manager's store. Only this thread may use it."""
    face = Awaited(AsyncSessionManager(manager.store), **options)
    try:
        yield face
    finally:
        face.run(face.manager.close())
        face.loop.close()
        gc.collect()  # coroutines that were cut off before their first step: Python warns of them


class Steps:
    """Counts the awaits of calls, and cancels the task at one of them, before or after its answer."""

    def __init__(self, at, *, answered):
        self.at, self.answered = at, answered
        self.entries, self.where = bytearray(), None

    async def follow(self, coroutine):
        """Await a call."""
        return await _Followed(coroutine, self)

    def reach(self, future):
        """Cancel the running task if this await is the one."""
        self.entries.append(1)
        if len(self.entries) == self.at:
            self.where = f"await {self.at}, {'answered' if self.answered else 'waiting'}"
            task = asyncio.current_task()
            if self.answered and future is not None:
                future.add_done_callback(lambda _: task.cancel())
            else:
                task.cancel()


class _Followed:
    def __init__(self, coroutine, steps):
        self.coroutine, self.steps = coroutine, steps

    def __await__(self):
        on = self.coroutine.send
        given = None
        while True:
            try:
                future = on(given)
            except StopIteration as ended:
                return ended.value
            self.steps.reach(future)
            try:
                given = yield future
                on = self.coroutine.send
            except BaseException as err:  # noqa: BLE001 (the call's affair)
                on, given = self.coroutine.throw, err


def cancel(face, call, at, _act, *, answered, **_options):
    """Make a call by `Awaited`, and cancel its task at an await. Return what `interrupt` returns."""
    steps = face.steps = Steps(at, answered=answered)
    try:
        outcome = call()
    except BaseException as err:  # noqa: BLE001 (it is what the test is about)
        outcome = err
    finally:
        face.steps = None
    if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
        raise outcome
    return steps, outcome
