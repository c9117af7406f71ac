"""Clients for the urls of Redis and Valkey servers. Every part of a url is checked: none is ignored."""

from __future__ import annotations

import re
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.values.checks import kind_of

_FORM = "it is like redis://localhost:6379/0; what stands in a password is percent-encoded"


_TEXT = ("text", ".+")
_SECONDS = ("a number of seconds above 0", r"(?=.*[1-9])[0-9]+([.][0-9]+)?")
_WHOLE = ("a whole number", "[0-9]+")
_TRUTH = ("true or false", "true|false")

_OPTIONS: dict[str, tuple[str, str]] = {
    "db": _WHOLE,
    "username": _TEXT,
    "password": _TEXT,
    "client_name": _TEXT,
    "max_connections": _WHOLE,
    "health_check_interval": _WHOLE,
    "protocol": ("2 or 3", "[23]"),
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "socket_keepalive": _TRUTH,
    "retry_on_timeout": _TRUTH,
}
"""The options of a url: what a value is, in words and as a pattern."""

_TLS_OPTIONS: dict[str, tuple[str, str]] = {
    "ssl_ca_certs": _TEXT,
    "ssl_ca_path": _TEXT,
    "ssl_certfile": _TEXT,
    "ssl_keyfile": _TEXT,
    "ssl_password": _TEXT,
    "ssl_cert_reqs": ("none, optional or required", "none|optional|required"),
    "ssl_check_hostname": _TRUTH,
}
"""Further options of rediss://."""

_ARGUMENTS = {"prefix", "ttl", "timeout", "namespace", "sliding", "limits", "allow_eviction"}


def connect(url: str, timeout: float) -> Any:
    """Return a client for a url. It connects at its first use, and waits at most *timeout* seconds.

    Raises:
        InvalidValueError: A part of the url is wrong, or an option is unknown. The error contains no password.

    """
    import redis

    _check(url)
    try:
        return cast("Any", redis.Redis).from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)
    except ValueError:  # its text may quote part of a password that contains a slash
        raise InvalidValueError("url", f"is not one that redis.Redis.from_url takes; {_FORM}") from None


def _check(url: object) -> None:
    if not isinstance(url, str):
        raise InvalidValueError("url", f"is {kind_of(url)}; {_FORM}")
    if "#" in url:
        raise InvalidValueError("url", "has a '#', which ends a url; write %23")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidValueError("url", f"cannot be read; {_FORM}") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise InvalidValueError("url", f"begins with {parts.scheme!r}; it is redis://, rediss:// or unix://")
    if not url.startswith(f"{url[: len(parts.scheme)]}://"):
        raise InvalidValueError("url", f"has no '//' after {parts.scheme!r}; {_FORM}")
    if parts.scheme == "unix":
        if parts.hostname or port or parts.path in ("", "/"):
            raise InvalidValueError("url", "names no socket by its whole path; it is like unix:///run/redis.sock?db=0")
    elif parts.path not in ("", "/") and not re.fullmatch("[0-9]+", parts.path[1:]):
        raise InvalidValueError("url", f"has no number of a database after the address; {_FORM}")
    _check_options(parts.query, tls=parts.scheme == "rediss", database=parts.scheme != "unix" and parts.path[1:])


def _check_options(query: str, *, tls: bool, database: str | bool) -> None:
    known = _OPTIONS | _TLS_OPTIONS if tls else _OPTIONS
    seen = set[str]()
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise InvalidValueError("url", "has an option that is not percent-encoded UTF-8") from None
    for name, text in pairs:
        if name not in known:
            problem = f"has the unknown option {name!r}; the options of a url are: {', '.join(known)}"
            if name in _TLS_OPTIONS:
                problem = f"has the option {name!r}, which needs TLS: begin it with rediss://"
            elif name in _ARGUMENTS:
                problem = f"has the option {name!r}, which is an argument: RedisSessionStore(url, {name}=...)"
            raise InvalidValueError("url", problem)
        wanted, pattern = known[name]
        if name in seen:
            raise InvalidValueError("url", f"has the option {name!r} twice")
        if not re.fullmatch(pattern, text, re.DOTALL):
            raise InvalidValueError("url", f"has the option {name!r}, but its value is not {wanted}")
        seen.add(name)
        if name == "db" and database:
            raise InvalidValueError("url", "has the number of a database twice: after the address, and as db=")
