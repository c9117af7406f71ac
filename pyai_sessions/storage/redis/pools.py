"""Connection pools of Redis and Valkey clients, repaired after a call was interrupted.

A pool counts its connections and lends no more than its limit. If a call is interrupted just after it took a
connection, before any variable of ours holds it, nobody gives that connection back, and a pool with a limit runs out.
The functions here find such connections and give them back.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from queue import Empty, Full
from typing import Any

_PATIENCE = 1.0
"""Seconds after which the lock of a queue counts as abandoned. The queue's functions hold it for microseconds."""


def pools_of(client: Any) -> list[Any]:
    """Return all pools that a client uses."""
    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        sentinels = getattr(getattr(pool, "sentinel_manager", None), "sentinels", ())
        return [pool, *(each.connection_pool for each in sentinels)]
    found: list[Any] = []
    with suppress(Exception):  # the client may be of an unknown class
        for node in client.get_nodes():
            inner = getattr(node, "redis_connection", None) or getattr(node, "valkey_connection", None)
            if inner is not None:
                found.append(inner.connection_pool)
    return found


def idle(pool: Any) -> list[Any]:
    """Return the connections of a pool that nobody uses."""
    waiting = getattr(getattr(pool, "pool", None), "queue", ())  # a BlockingConnectionPool has them in a queue
    return [each for each in (*getattr(pool, "_available_connections", ()), *waiting) if each is not None]


def unlock_logging(error: BaseException) -> None:
    """Free the lock of `logging`, if the exception came at the start of the function that frees it.

    A client asks for a logger when it connects. Before Python 3.13, other threads would then wait for it forever.
    """
    release = getattr(logging, "_releaseLock", None)
    trace = error.__traceback__
    while release is not None and trace is not None:
        if trace.tb_frame.f_code is release.__code__ and trace.tb_lineno == release.__code__.co_firstlineno:
            release()
        trace = trace.tb_next


def unlock(pool: Any) -> None:
    """Free the lock of a BlockingConnectionPool's queue, if an interrupted call left it locked."""
    lock = getattr(getattr(pool, "pool", None), "mutex", None)
    if lock is None:
        return
    lock.acquire(timeout=_PATIENCE)
    with suppress(RuntimeError):  # another thread has freed it
        lock.release()


def take_back(pool: Any, error: BaseException, own: Any = None) -> None:
    """Give back the connections that interrupted functions of the client had taken; then close the idle ones.

    A reply may be unread on an idle connection, too. A client that has an *own* connection, outside the pool, keeps it.
    """
    for connection in _in_hand(pool, error):
        if connection is not own:
            connection.disconnect()
            pool.release(connection)
    if hasattr(pool, "_created_connections"):
        _count_made(pool)
    elif hasattr(pool, "_connections"):
        _count_waiting(pool)
    try:
        pool.disconnect(inuse_connections=False)
    except TypeError:  # some pools of old releases can only close all
        for each in idle(pool):
            each.disconnect()


def _in_hand(pool: Any, error: BaseException) -> list[Any]:
    """Return the connections in use that only variables of the interrupted functions refer to."""
    free = idle(pool)
    used = list(getattr(pool, "_in_use_connections", ()))
    used += [each for each in getattr(pool, "_connections", ()) if not _has(free, each)]  # in a BlockingConnectionPool
    found: list[Any] = []
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name != "disconnect":  # its variables go through the connections of all calls
            held = [frame.f_locals.get(each) for each in ("connection", "conn", "item")]  # queue.Queue has an `item`
            found += [each for each in held if _has(used, each) and not _has(found, each)]
        trace = trace.tb_next
    return found


def _has(connections: list[Any], connection: Any) -> bool:
    return any(each is connection for each in connections)


def _count_made(pool: Any) -> None:
    """Count a pool's connections anew: one that is neither idle nor in use is lost, and the pool may make another."""
    with pool._lock:  # noqa: SLF001 (no public way)
        made = len(pool._available_connections) + len(pool._in_use_connections)  # noqa: SLF001
        pool._created_connections = min(made, pool._created_connections)  # noqa: SLF001


def _count_waiting(pool: Any) -> None:
    """Put an empty place into a BlockingConnectionPool's queue for each connection that was lost."""
    queue = pool.pool
    with queue.mutex:
        waiting = list(queue.queue)
        used = [each for each in pool._connections if not _has(waiting, each)]  # noqa: SLF001 (no public way)
    # Another thread may be filling a place just now. Then there is one place too many until all connections are back.
    with suppress(Full):
        for _ in range(pool.max_connections - len(waiting) - len(used)):
            queue.put_nowait(None)
    with suppress(Empty, Full):  # wakes a thread that waits for a place and may not have been notified
        queue.put_nowait(queue.get_nowait())
