"""Errors of Redis and Valkey clients as StorageErrors that name the cause and the remedy."""

from __future__ import annotations

import re

from pyai_sessions.errors import (
    StorageError,
    StorageFullError,
    StorageLockedError,
    StoragePermissionError,
    StorageReadOnlyError,
    StorageUnreachableError,
)

_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, RecursionError)
"""What clients raise when they read a reply that no server gives."""

CHECK_ADDRESS = "check that a Redis or Valkey server listens at this address and port"

# A row: names of classes of a client's error; how its text begins, or what it contains, after a "…"; the class of our
# error, what it says, and its remedy, or None for that of the class. A client's text is never shown: it may quote the
# command, and with it a conversation.
_MEANINGS: list[tuple[set[str], tuple[str, ...], type[StorageError], str, str | None]] = [
    (
        {"MaxConnectionsError"},
        ("Too many connections", "No connection available"),
        StorageError,
        "all connections of the client's pool are in use",
        "give the client a larger max_connections=, or a BlockingConnectionPool, whose callers wait for one",
    ),
    (
        {"MaxClientsError"},
        ("max number of clients reached", "ERR max number of clients"),
        StorageError,
        "the server has as many clients as it accepts",
        "raise the server's maxclients, or let fewer processes and threads use it",
    ),
    ({"OutOfMemoryError"}, ("OOM",), StorageFullError, "the server is at its memory limit", None),
    ({"ReadOnlyError"}, ("READONLY", "…-READONLY"), StorageReadOnlyError, "the server is a read-only replica", None),
    (set(), ("…MISCONF",), StorageFullError, "the server cannot write its snapshot (MISCONF)", None),
    (
        {"BusyLoadingError"},
        ("LOADING",),
        StorageUnreachableError,
        "the server is still loading its data (LOADING)",
        "wait until it has loaded them, then repeat the call",
    ),
    (
        {"AuthenticationError", "AuthenticationWrongNumberOfArgsError"},
        ("WRONGPASS", "NOAUTH", "invalid password", "invalid username-password", "ERR Client sent AUTH"),
        StoragePermissionError,
        "the server refuses the user's name or password, or asks for one",
        "give both to the client, or in the url: redis://name:password@host:port, percent-encoded",
    ),
    (
        {"NoPermissionError", "AuthorizationError"},
        ("NOPERM", "…-NOPERM", "…ACL failure in script", "…The user executing the script"),
        StoragePermissionError,
        "the server's user may not run this command, or not on these keys (NOPERM)",
        "let an administrator allow it: ACL SETUSER <name> ~<prefix>* +@hash +@sortedset +@keyspace +@scripting",
    ),
    (
        set(),
        ("DENIED",),
        StoragePermissionError,
        "the server is in protected mode: it serves its own machine alone",
        "set a password on the server, or connect from its machine",
    ),
    (
        set(),
        ("WRONGTYPE", "…-WRONGTYPE", "…WRONGTYPE Operation"),
        StorageError,
        "a key that begins with the store's prefix holds a value of another type (WRONGTYPE)",
        "use a prefix that nothing else uses, or delete or rename that key",
    ),
    (
        {"MovedError", "AskError"},
        ("MOVED", "ASK "),
        StorageError,
        "the server is a node of a cluster",
        "use a cluster's client: RedisSessionStore(client=redis.RedisCluster(host=..., port=...))",
    ),
    (
        set(),
        ("DB index is out of range", "ERR DB index", "…SELECT is not allowed in cluster mode"),
        StorageError,
        "the server has no database of this number",
        "choose another, such as 0: redis://host:port/0",
    ),
    (
        set(),
        ("unknown command", "ERR unknown command", "unknown subcommand"),
        StorageError,
        "the server does not know a command",
        "use Redis 7.0 or later, or Valkey; see whether the server renames or forbids commands",
    ),
    (
        {"InvalidResponse"},
        ("Protocol Error",),
        StorageError,
        "what answers does not speak Redis's protocol",
        CHECK_ADDRESS,
    ),
    (
        set(),
        ("…CERTIFICATE_VERIFY_FAILED",),
        StorageError,
        "its TLS certificate cannot be verified",
        "give the client the authority that signed it, or in the url: ?ssl_ca_certs=/path/to/ca.pem",
    ),
    (
        {"SSLError"},
        ("…[SSL", "…SSL:"),
        StorageError,
        "it does not speak TLS at this port, or not as the client does",
        "use redis:// in place of rediss://, or the port at which the server speaks TLS",
    ),
    (set(), ("BUSY ", "…-BUSY "), StorageLockedError, "the server runs a long script (BUSY)", None),
]

_GONE = {"ConnectionError", "TimeoutError", "ClusterDownError", "MasterDownError", "SlotNotCoveredError"}
_OVER_TLS = (
    "check that it runs, is reachable, and speaks TLS at this port (redis:// is without TLS), then repeat the call"
)


def storage_error(where: str, err: Exception, *, tls: bool = False) -> StorageError | None:
    """Return the StorageError that says what a client's error means; None if it is not a client's error.

    *where* is the server's address. *tls* says whether the client speaks TLS.
    """
    names, text = {each.__name__ for each in type(err).__mro__}, str(err)
    unreachable = StorageUnreachableError(where, type(err).__name__, _OVER_TLS if tls else None)
    if names & {"RedisClusterException", "ValkeyClusterException"}:  # these are not RedisErrors
        if "luster mode is not enabled" in text or "cluster support disabled" in text:
            return StorageError(where, "the server is no node of a cluster", "use redis.Redis(...), or a url")
        return unreachable
    if "RedisError" not in names and "ValkeyError" not in names and not isinstance(err, OSError):
        problem = f"its client cannot read what it answers ({type(err).__name__})"
        return StorageError(where, problem, CHECK_ADDRESS) if isinstance(err, _UNREADABLE) else None
    for classes, texts, kind, problem, remedy in _MEANINGS:
        if names & classes or any(each[1:] in text if each[0] == "…" else text.startswith(each) for each in texts):
            return kind(where, problem, remedy)
    if names & _GONE or isinstance(err, OSError):
        return unreachable
    code = re.match("[A-Za-z]{1,20}(?![^ ])", text)  # the first word: what follows may quote the command
    return StorageError(where, f"{type(err).__name__}: {code.group()}" if code else type(err).__name__)
