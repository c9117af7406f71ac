"""Clients of Redis and Valkey, used so that an interrupted call leaves no unread reply for the next one.

A client takes a connection from its pool, sends a command, reads the reply, and then gives the connection back whatever
happened. An exception from outside (Ctrl-C, a time limit by a signal, `gevent.Timeout`) may come between command and
reply. The next command on that connection, of whatever thread, would then read the reply to the command before it. So
each call here has a copy of the client. The copy's pool lends connections of the client's own pool. It gives them back
when the call has ended well, and closes them first when it has not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

from pyai_sessions.storage.redis.pools import idle, pools_of, take_back, unlock, unlock_logging

T = TypeVar("T")

_OWN_ERRORS = {"RedisError", "ValkeyError", "RedisClusterException", "ValkeyClusterException"}
_OF_NODES = ("get_redis_connection", "get_valkey_connection")
"""Methods of clusters' clients that return the client of a node."""


class Clients:
    """Copies of a client, each for one call at a time."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._idle: deque[_Copy] = deque()  # taking one, or giving it back, is one step of C: no lock is needed

    def call(self, act: Callable[[Any], T]) -> T:
        """Return what *act* returns for a client that no other call has meanwhile."""
        try:
            copy = self._idle.pop()
        except IndexError:
            copy = _Copy(self._client)
        try:
            result = act(copy.client)
            copy.give_back()
        except BaseException as err:
            # The client itself closes a connection that failed, and has read a reply that is an error.
            if _OWN_ERRORS.isdisjoint([each.__name__ for each in type(err).__mro__]):
                copy.drop(err)
            else:
                copy.give_back()
            raise
        self._idle.append(copy)
        return result


class _Copy:
    """A copy of a client that shares everything with it, but keeps the connections that it uses."""

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
            self.client = client  # of a class that we do not know: it is used as it is

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
            if not any(each is connection for each in idle(pool)):  # interrupted while it was given back
                pool.release(connection)
        # A client may have a connection of its own. And it runs commands by itself, in order to connect, to find the
        # primary, or to learn which node of a cluster has what: those connections are idle again.
        connection = getattr(self._own, "connection", None)
        if connection is not None:
            connection.disconnect()
        for each in pools:
            take_back(each, error, connection)

    def _copy_of_node(self, client: Any) -> Any:
        """Return a copy of a client of a cluster's node."""
        found = self._nodes.get(id(client))
        if found is None or found.connection_pool.own is not client.connection_pool:
            pool = _Pool(client.connection_pool, self._lent)
            found = self._nodes[id(client)] = _copy(client, connection_pool=pool)
        return found


class _Pool:
    """Lends connections of another pool, and says in a list which: they stay lent until a call has ended."""

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
        """Keep the connection: nothing says yet whether its reply was read."""


def _copy(client: Any, **attributes: Any) -> Any:
    """Return a client that shares all attributes of another but these."""
    kind = cast("Any", type)(client)
    copy: Any = object.__new__(_class_of_copies(kind))
    copy.__dict__.update(client.__dict__, **attributes)
    return copy


@cache
def _class_of_copies(kind: Any) -> Any:
    """Return the class of copies of clients of a class."""

    def pipeline(self: Any, *arguments: Any, **options: Any) -> Any:
        made = kind.pipeline(self, *arguments, **options)
        for name in nodes:  # a cluster's pipeline asks by itself
            setattr(made, name, getattr(self, name))
        return made

    def of_node(name: str) -> Callable[[Any, Any], Any]:
        return lambda self, node: self._copy_of_node(getattr(kind, name)(self, node))

    nodes = {name: of_node(name) for name in _OF_NODES if hasattr(kind, name)}
    # A client that is no longer needed closes its pool; a copy must not.
    return type(
        kind.__name__, (kind,), {"__module__": kind.__module__, "__del__": _keep, "pipeline": pipeline, **nodes}
    )


def _keep(_: Any) -> None:
    """Close nothing."""
