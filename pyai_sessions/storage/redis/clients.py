"""Clients of Redis and Valkey whose calls may be interrupted: no later call reads a reply that is not its own.

A client takes a connection from its pool, sends a command, reads the reply and gives the connection back. If Ctrl-C, a
signal's time limit or `gevent.Timeout` interrupts it between command and reply, it gives the connection back all the
same, and the next command on that connection reads the wrong reply.

Here each call uses a copy of the client. The pool of a copy lends connections of the client's own pool. It gives them
back when the call has ended, and closes them first if the call was interrupted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

from pyai_sessions.storage.redis.pools import idle, pools_of, take_back, unlock, unlock_logging

T = TypeVar("T")

_OWN_ERRORS = {"RedisError", "ValkeyError", "RedisClusterException", "ValkeyClusterException"}
_NODE_METHODS = ("get_redis_connection", "get_valkey_connection")
"""Methods of a cluster's client that return the client of a node."""


class Clients:
    """Copies of one client. A call takes one, and no other call uses it meanwhile."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._idle: deque[_Copy] = deque()  # needs no lock: `pop` and `append` of a deque are atomic

    def call(self, act: Callable[[Any], T]) -> T:
        """Return what *act* returns for a copy of the client."""
        try:
            copy = self._idle.pop()
        except IndexError:
            copy = _Copy(self._client)
        try:
            result = act(copy.client)
            copy.give_back()
        except BaseException as err:
            # After an error of its own, the client has closed the connection, or has read the whole reply.
            if _OWN_ERRORS.isdisjoint([each.__name__ for each in type(err).__mro__]):
                copy.drop(err)
            else:
                copy.give_back()
            raise
        self._idle.append(copy)
        return result


class _Copy:
    """A copy of a client that shares everything with it, but keeps its connections until the call has ended."""

    def __init__(self, client: Any) -> None:
        self._own = client
        self._lent: list[tuple[Any, Any]] = []
        self._nodes: dict[int, Any] = {}
        attributes = getattr(client, "__dict__", {})
        if "connection_pool" in attributes:
            self.client = _copy(client, connection_pool=_Pool(client.connection_pool, self._lent))
        elif "nodes_manager" in attributes:
            self.client = _copy(client, _copy_of_node=self._copy_of_node)
        else:
            self.client = client  # of an unknown class: it is used as it is

    def give_back(self) -> None:
        """Give the connections back to the client's own pools."""
        lent = self._lent
        while lent:
            pool, connection = lent[-1]
            pool.release(connection)
            lent.pop()

    def drop(self, error: BaseException) -> None:
        """Close the connections on which a reply may be unread."""
        unlock_logging(error)
        pools = pools_of(self._own)
        for each in pools:
            unlock(each)
        while self._lent:
            pool, connection = self._lent.pop()
            connection.disconnect()
            if not any(each is connection for each in idle(pool)):  # else `give_back` was interrupted after its release
                pool.release(connection)
        # The client may have a connection of its own. It also runs commands of its own, to find a primary or the nodes
        # of a cluster: their connections are idle in the pools, perhaps with a reply unread.
        connection = getattr(self._own, "connection", None)
        if connection is not None:
            connection.disconnect()
        for each in pools:
            take_back(each, error, connection)

    def _copy_of_node(self, client: Any) -> Any:
        """Return a copy of the client of a cluster's node."""
        found = self._nodes.get(id(client))
        if found is None or found.connection_pool.own is not client.connection_pool:
            pool = _Pool(client.connection_pool, self._lent)
            found = self._nodes[id(client)] = _copy(client, connection_pool=pool)
        return found


class _Pool:
    """A pool that lends the connections of another pool, and notes them in a list until the call has ended."""

    def __init__(self, own: Any, lent: list[tuple[Any, Any]]) -> None:
        self.own = own
        self._lent = lent

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        own = self.own
        self._lent.append((own, own.get_connection(*arguments, **options)))
        return self._lent[-1][1]

    def release(self, connection: Any) -> None:
        """Keep the connection: it is not known yet whether its reply was read."""


def _copy(client: Any, **attributes: Any) -> Any:
    """Return a client that shares all attributes of another one except these."""
    kind = cast("Any", type)(client)
    copy: Any = object.__new__(_class_of_copies(kind))
    copy.__dict__.update(client.__dict__, **attributes)
    return copy


@cache
def _class_of_copies(kind: Any) -> Any:
    """Return a subclass of a client's class, for its copies."""

    def pipeline(self: Any, *arguments: Any, **options: Any) -> Any:
        made = kind.pipeline(self, *arguments, **options)
        for name in nodes:  # the pipeline of a cluster's client looks up its nodes itself
            setattr(made, name, getattr(self, name))
        return made

    def of_node(name: str) -> Callable[[Any, Any], Any]:
        return lambda self, node: self._copy_of_node(getattr(kind, name)(self, node))

    nodes = {name: of_node(name) for name in _NODE_METHODS if hasattr(kind, name)}
    # A client closes its pool when it is garbage collected. A copy must not.
    return type(
        kind.__name__, (kind,), {"__module__": kind.__module__, "__del__": _keep, "pipeline": pipeline, **nodes}
    )


def _keep(_: Any) -> None:
    """Close nothing."""
