"""Checkpoints for LangGraph, in sessions: what ``graph.compile(checkpointer=...)`` takes.

It is longer than two converters and the calls, as LangGraph wants each call twice, sync and async, and goes on from any
checkpoint: `checkpoints` makes these of the session, `log` says how they lie in it.
"""

from __future__ import annotations

from asyncio import Lock as AsyncLock
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Iterator, Sequence
from importlib import import_module
from itertools import islice
from os import getpid
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from pyai_sessions import (
    ANYONE,
    AsyncSessionManager,
    MissingPackageError,
    SessionError,
    SessionManager,
    UnsupportedOperationError,
)
from pyai_sessions.integrations.langgraph.checkpoints import Checkpoints, Steps, Tips, thread_of
from pyai_sessions.values.checks import Anyone

try:
    _framework: Any = import_module("langgraph.checkpoint.base")
    _Saver: Any = _framework.BaseCheckpointSaver
except ImportError:
    _framework, _Saver = None, object


class LangGraphSaver(Checkpoints, _Saver):  # type: ignore[misc]  # pyright: ignore[reportUntypedBaseClass]
    """Keeps the threads of graphs in sessions: each thread is the session with its id.

    The messages in the state are messages of the session. All else of a checkpoint, and the writes of tasks, are in
    messages between these that say nothing to a model. A thread can begin as any session that another framework, or
    your own code, has written messages to: the graph begins with these.

    Args:
        manager: A `SessionManager`, or an `AsyncSessionManager`, which offers the async methods alone.
        user_id: The user to whom new sessions belong, where ``config["configurable"]["user_id"]`` names none.
        messages_key: The channel that holds the conversation: a list of messages.
        serde: LangGraph's serializer for all but the conversation.

    Notes:
        Each call that changes a thread is one commit. A graph that leaves out, changes or reorders messages, or goes on
        from an earlier checkpoint, costs loading the session once; what is no longer said stays in the earlier
        checkpoints.

    """

    def __init__(
        self,
        manager: SessionManager | AsyncSessionManager,
        *,
        user_id: str | Anyone = ANYONE,
        messages_key: str = "messages",
        serde: Any = None,
    ) -> None:
        if _framework is None:
            raise MissingPackageError("LangGraphSaver", "langgraph", name="langgraph")
        _Saver.__init__(self, serde=serde)
        is_async = isinstance(manager, AsyncSessionManager)
        self._sync = None if is_async else manager
        self._async = manager if is_async else AsyncSessionManager(manager)
        self._user_id = user_id
        self._key = messages_key
        self._tips = Tips()
        self._turns: WeakValueDictionary[Any, Lock] = WeakValueDictionary()
        self._awaited_turns: WeakValueDictionary[Any, AsyncLock] = WeakValueDictionary()

    # The calls, sync and async ------------------------------------------------------------------------------------

    def get_tuple(self, config: Any) -> Any:
        """Return the checkpoint that *config* names, or the newest of its thread; None if there is none."""
        return self._made(self._get(config))

    async def aget_tuple(self, config: Any) -> Any:
        """Return what `get_tuple` does."""
        return await self._awaited(self._get(config))

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:  # noqa: ARG002
        """Store a checkpoint whose parent *config* names, and return its own config. One commit."""
        with self._turn(config):
            return self._made(self._put(config, checkpoint, metadata))

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:  # noqa: ARG002
        """Do what `put` does."""
        async with self._awaited_turn(config):
            return await self._awaited(self._put(config, checkpoint, metadata))

    def put_writes(self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = "") -> None:
        """Store what a task wrote after the checkpoint that *config* names. One commit."""
        with self._turn(config):
            self._made(self._put_writes(config, writes, task_id, task_path))

    async def aput_writes(
        self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Do what `put_writes` does."""
        async with self._awaited_turn(config):
            await self._awaited(self._put_writes(config, writes, task_id, task_path))

    def list(
        self,
        config: Any,
        *,
        filter: Any = None,  # noqa: A002 (the name that LangGraph gives it)
        before: Any = None,
        limit: int | None = None,
    ) -> Iterator[Any]:
        """Yield the checkpoints of a thread, or of all threads, newest first. Each thread is loaded whole."""
        for thread in self._made(self._listed(config)):
            session = self._made(self._whole(thread))
            for each in islice(self._list(config, filter, before, session), limit):
                limit = None if limit is None else limit - 1
                yield each

    async def alist(
        self,
        config: Any,
        *,
        filter: Any = None,  # noqa: A002
        before: Any = None,
        limit: int | None = None,
    ) -> AsyncIterator[Any]:
        """Yield what `list` does."""
        for thread in await self._awaited(self._listed(config)):
            session = await self._awaited(self._whole(thread))
            for each in islice(self._list(config, filter, before, session), limit):
                limit = None if limit is None else limit - 1
                yield each

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread: its session, with the conversation."""
        self._made(self._delete([thread_id]))

    async def adelete_thread(self, thread_id: str) -> None:
        """Do what `delete_thread` does."""
        await self._awaited(self._delete([thread_id]))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Store a copy of a thread: a fork of its session, which shares its pages."""
        self._made(self._copy(source_thread_id, target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do what `copy_thread` does."""
        await self._awaited(self._copy(source_thread_id, target_thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that runs stored, and the writes after these. The conversation stays."""
        self._made(self._delete_for_runs(run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do what `delete_for_runs` does."""
        await self._awaited(self._delete_for_runs(run_ids))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove all checkpoints of threads but the newest of each namespace; ``"delete"`` deletes the threads.

        The conversation stays, without what was left out of it. So do the earlier checkpoints that the newest one needs
        to restore a ``DeltaChannel``.
        """
        self._made(self._prune(thread_ids, strategy))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Do what `prune` does."""
        await self._awaited(self._prune(thread_ids, strategy))

    # A graph stores what its tasks wrote while it stores a checkpoint. Side by side, all calls but one would find that
    # the session was changed, and read it anew. A lock goes with the last call that holds or wants it.

    def _turn(self, config: Any) -> Lock:
        return self._turns.setdefault((getpid(), thread_of(config)), Lock())

    def _awaited_turn(self, config: Any) -> AsyncLock:
        return self._awaited_turns.setdefault((get_running_loop(), thread_of(config)), AsyncLock())

    def _made(self, steps: Steps) -> Any:
        """Make the calls of *steps* and return what these return."""
        if self._sync is None:
            use = "the graph's async methods, or give the saver a SessionManager"
            raise UnsupportedOperationError(f"this saver has an AsyncSessionManager: use {use}")
        reply, error = None, None
        while True:
            try:
                name, arguments, options = steps.send(reply) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            reply, error = None, None
            try:
                reply = getattr(self._sync, name)(*arguments, **options)
            except SessionError as err:
                error = err

    async def _awaited(self, steps: Steps) -> Any:
        """Do what `_made` does."""
        reply, error = None, None
        while True:
            try:
                name, arguments, options = steps.send(reply) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            reply, error = None, None
            try:
                reply = await getattr(self._async, name)(*arguments, **options)
            except SessionError as err:
                error = err
