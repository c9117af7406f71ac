"""Pools of clients of Redis and Valkey, and what an interrupted call leaves in them.

A pool counts its connections, and lends no more than its limit. An exception from outside can cut the client off after
it took a connection from the pool and before anybody knows of that. Such a connection is never given back, and a pool
with a limit, as those of redis-py by default, runs out of connections. The functions here find it and give it back.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from queue import Empty, Full
from typing import Any

_PATIENCE = 1.0
"""Seconds after which the lock of a queue has no owner any more: its functions hold it for microseconds."""


def pools_of(client: Any) -> list[Any]:
    """Return all pools that a client uses."""
    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        sentinels = getattr(getattr(pool, "sentinel_manager", None), "sentinels", ())
        return [pool, *(each.connection_pool for each in sentinels)]
    found: list[Any] = []
    with suppress(Exception):  # of a class that we do not know
        for node in client.get_nodes():
            inner = getattr(node, "redis_connection", None) or getattr(node, "valkey_connection", None)
            if inner is not None:
                found.append(inner.connection_pool)
    return found


def idle(pool: Any) -> list[Any]:
    """Return the connections that a pool has and nobody uses."""
    waiting = getattr(getattr(pool, "pool", None), "queue", ())  # of a BlockingConnectionPool
    return [each for each in (*getattr(pool, "_available_connections", ()), *waiting) if each is not None]


def unlock_logging(error: BaseException) -> None:
    """Free the lock of `logging`, if an exception hit the entry of the function that would have freed it.

    A client asks for a logger when it connects. Before Python 3.13, every other thread that did so would wait for ever.
    """
    release = getattr(logging, "_releaseLock", None)
    trace = error.__traceback__
    while release is not None and trace is not None:
        if trace.tb_frame.f_code is release.__code__ and trace.tb_lineno == release.__code__.co_firstlineno:
            release()
        trace = trace.tb_next


def unlock(pool: Any) -> None:
    """Free the lock of a BlockingConnectionPool's queue, if an exception hit the functions that would have freed it."""
    lock = getattr(getattr(pool, "pool", None), "mutex", None)
    if lock is None:
        return
    lock.acquire(timeout=_PATIENCE)
    with suppress(RuntimeError):  # somebody else found the same
        lock.release()


def take_back(pool: Any, error: BaseException, own: Any = None) -> None:
    """Give back what the client's functions, which an exception cut off, had taken; then close what is idle.

    A connection on which a reply may be unread is among those that are idle. The client keeps its *own* connection, if
    it has one.
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
    except TypeError:  # in old releases some pools can only close all
        for each in idle(pool):
            each.disconnect()


def _in_hand(pool: Any, error: BaseException) -> list[Any]:
    """Return the connections in use that variables of cut-off functions hold: nobody else knows of them."""
    free = idle(pool)
    used = [each for each in getattr(pool, "_connections", ()) if not _has(free, each)]  # of a BlockingConnectionPool
    used += list(getattr(pool, "_in_use_connections", ()))
    found: list[Any] = []
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name != "disconnect":  # which goes through those of all
            held = [frame.f_locals.get(each) for each in ("connection", "conn", "item")]  # item: of queue.Queue
            found += [each for each in held if _has(used, each) and not _has(found, each)]
        trace = trace.tb_next
    return found


def _has(connections: list[Any], connection: Any) -> bool:
    return any(each is connection for each in connections)


def _count_made(pool: Any) -> None:
    """Forget connections that were counted, and are neither idle nor in use: the pool makes others."""
    with pool._lock:  # noqa: SLF001 (no public way)
        made = len(pool._available_connections) + len(pool._in_use_connections)  # noqa: SLF001
        pool._created_connections = min(made, pool._created_connections)  # noqa: SLF001


def _count_waiting(pool: Any) -> None:
    """Put a place into a BlockingConnectionPool's queue for each that was taken and that no connection has."""
    queue = pool.pool
    with queue.mutex:
        waiting = list(queue.queue)
        used = [each for each in pool._connections if not _has(waiting, each)]  # noqa: SLF001 (no public way)
    # Another thread may just make a connection of a place: then there is one too many, until all are given back.
    with suppress(Full):
        for _ in range(pool.max_connections - len(waiting) - len(used)):
            queue.put_nowait(None)
    with suppress(Empty, Full):  # one that waits may not have been told of a place: it is told so
        queue.put_nowait(queue.get_nowait())
