"""`Server`: commands to a server or a cluster. Replies are checked, and every failure is a StorageError."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from pyai_sessions.errors import InvalidValueError, StorageError, StorageUnreachableError, UnsuitableMappingError
from pyai_sessions.storage.redis.clients import Clients
from pyai_sessions.storage.redis.failures import CHECK_ADDRESS, storage_error
from pyai_sessions.storage.redis.replies import UnfitReplyError, read_reply
from pyai_sessions.storage.redis.scripts import SOURCES, Command, Script
from pyai_sessions.storage.walks import Walk
from pyai_sessions.values.checks import kind_of

_NO_OPTIONS: Mapping[str, Any] = {}

_AT_ONCE = 100
"""Hashes that one script looks at. Meanwhile the server answers nobody else."""


class Server:
    """A server, a cluster, or the primary that Sentinel names, as a client reaches it.

    Args:
        client: A client of redis-py or valkey-py, whatever its ``decode_responses``. Its settings stay as they are.

    """

    def __init__(self, client: Any) -> None:
        module = type(client).__module__
        if not hasattr(client, "execute_command") or ".asyncio" in module:
            msg = f"{kind_of(client)} is not a synchronous client: pass redis.Redis(...) or redis.RedisCluster(...)"
            raise UnsuitableMappingError(msg)
        self.client = client
        self.clustered = hasattr(client, "get_primaries")
        self._clients = Clients(client)

    @property
    def where(self) -> str:
        """The server's address, without credentials."""
        if self.clustered:
            return f"the cluster of {getattr(self.client.get_default_node(), 'name', '?')}"
        options = getattr(getattr(self.client, "connection_pool", None), "connection_kwargs", {})
        if "path" in options:
            return f"unix:{options['path']}"
        return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"

    # Commands ----------------------------------------------------------------------------------------------------

    def command(self, *command: Any, **options: Any) -> Any:
        """Run a command and return its reply, as `read_reply` does.

        Raises:
            StorageError: The server failed, or its reply is not what the command gives.

        """
        try:
            try:
                reply = self._run(command, options)
            except Exception as err:
                if "NOSCRIPT" not in str(err) and type(err).__name__ != "NoScriptError":
                    raise
                # The server does not have the script yet, or no longer.
                reply = self._run(("EVAL", SOURCES[command[1]], *command[2:]), options)
        except Exception as err:  # noqa: BLE001 (it is raised as what it means)
            self._raise(err)
        return self._read(command, reply)

    def _run(self, command: Command, options: Mapping[str, Any]) -> Any:
        return self._clients.call(lambda client: client.execute_command(*command, **options, NEVER_DECODE=True))

    def _read(self, command: Command, reply: Any) -> Any:
        try:
            return read_reply(command, reply)
        except UnfitReplyError as err:
            problem = f"its reply to {command[0]} is {err}, as no Redis or Valkey server answers; check the address"
            raise StorageError(self.where, problem) from err

    def commands(self, requests: Sequence[Command]) -> list[Any]:
        """Run commands in one round trip and return their replies. A command that failed is run again by itself."""
        if len(requests) < 2:  # noqa: PLR2004
            return [self.command(*each) for each in requests]
        try:
            replies = self._clients.call(lambda client: _pipelined(client, requests))
        except Exception as err:  # noqa: BLE001 (likewise)
            if self.clustered:
                with suppress(Exception):
                    self._clients.call(_find_nodes)
            self._raise(err)
        return [
            self.command(*request) if isinstance(reply, Exception) else self._read(request, reply)
            for request, reply in zip(requests, replies, strict=True)
        ]

    def ask(
        self, script: Script, hashes: Sequence[bytes], arguments: Callable[[slice], Sequence[bytes | str]]
    ) -> list[Any]:
        """Run a script on many hashes in one round trip; return what it tells of them, one after another.

        *arguments* returns the arguments for a part of the hashes: one script looks at some of them.
        """
        size = 1 if self.clustered else _AT_ONCE
        parts = [slice(n, n + size) for n in range(0, len(hashes), size)]
        replies = self.commands([script.on(hashes[each], *arguments(each)) for each in parts])
        return [each for reply in replies for each in reply]

    def _raise(self, err: Exception) -> NoReturn:
        """Raise the StorageError that says what a client's error means. Errors that are none of a client's pass."""
        if isinstance(err, (StorageError, InvalidValueError)):
            raise err
        pool = getattr(self.client, "connection_pool", None)
        has_tls = "SSL" in getattr(getattr(pool, "connection_class", object), "__name__", "")
        error = storage_error(self.where, err, tls=has_tls)
        if error is None:
            raise err
        if "args beginning with" in str(err):  # it quotes an unknown command with what it would have stored
            err.args = (str(err).partition(",")[0],)
        raise error from err

    # The whole server --------------------------------------------------------------------------------------------

    def scan(self, pattern: bytes, kind: str) -> Iterator[bytes]:
        """Iterate over the keys that match a pattern and hold values of this kind; a key may come twice."""
        for node in self._nodes():
            yield from self.steps(["SCAN"], ["MATCH", pattern, "COUNT", "500", "TYPE", kind], node)

    def steps(self, start: Command, rest: Command, node: Mapping[str, Any] = _NO_OPTIONS) -> Iterator[Any]:
        """Iterate over what a scan finds. The cursor stands between the *start* and the *rest* of its command."""
        walk, cursor = Walk(self.where, CHECK_ADDRESS), 0
        while True:
            cursor, found = self.command(*start, cursor, *rest, **node)
            yield from found
            if cursor == 0:
                return
            walk.reach(cursor)

    def eviction(self) -> str | None:
        """Return the policy by which the server removes keys when its memory is full; None if it does not say so.

        Costs a round trip to each server.
        """
        for node in self._nodes():
            try:
                told: dict[str, str] = self.command("INFO", "memory", **node)
            except StorageUnreachableError:
                raise
            except StorageError:  # the user may not ask
                return None
            policy = told.get("maxmemory_policy", "")
            if told.get("maxmemory", "0") != "0" and policy.startswith(("allkeys-", "volatile-")):
                return policy
        return None

    def _nodes(self) -> list[dict[str, Any]]:
        """Return the options that send a command to each of a cluster's primaries, or to the one server."""
        return [{"target_nodes": each} for each in self.client.get_primaries()] if self.clustered else [{}]


def _find_nodes(client: Any) -> None:
    """Let the client of a cluster find its nodes anew, so that a call that is repeated does not ask one that is gone.

    redis-py does so itself where a command fails. But a pipeline first asks the client's default node which keys a
    script has. If that node is gone, the pipeline fails there, each time.
    """
    client.nodes_manager.initialize()


def _pipelined(client: Any, requests: Sequence[Command]) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for each in requests:
            pipeline.execute_command(*each, NEVER_DECODE=True)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
    return replies
