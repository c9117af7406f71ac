"""Checks of arguments: ids, times, limits. Each raises an error with the argument's name, or accepts it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, cast

import msgspec

from pyai_sessions.errors import InvalidValueError, SessionNotFoundError

Clock = Callable[[], datetime]
"""Returns the current time, with a time zone. All code reads the time through one, so tests can set it."""

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""A path, in any form that Python takes."""

MAX_ID_BYTES = 1024

_LONGEST_WAIT = 10**6

_SHOWN = 60
"""Characters of a given value that an error shows."""


class Anyone(Enum):
    """The type of ANYONE, the default of arguments that name the owner of a session."""

    ANYONE = "anyone"

    def __repr__(self) -> str:
        return self.name


class Nobody(Enum):
    """The type of NOBODY, which lists and counts take for sessions without a user."""

    NOBODY = "nobody"

    def __repr__(self) -> str:
        return self.name


NOBODY = Nobody.NOBODY
"""Asks `list_sessions` and `count` for sessions without a user. None raises: it may come from a failed login."""
ANYONE = Anyone.ANYONE
"""Asks for any user's sessions, like leaving the argument out. None raises: it may come from a failed login."""
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_TIMES = "it is a datetime with a time zone, ISO 8601 text with one (2026-01-31T12:00:00Z), or seconds since 1970"


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(timezone.utc)


def kind_of(value: object) -> str:
    """Return the type of *value* as an error names it: ``"an int"``, ``"bytes"``, ``"None"``, ``"a decimal.Decimal"``.

    >>> kind_of(5), kind_of(b""), kind_of(None), kind_of(int)
    ('an int', 'bytes', 'None', 'the class int')
    """
    if value is None:
        return "None"
    kind = value if isinstance(value, type) else type(value)
    ours = kind.__module__.partition(".")[0] == "pyai_sessions"
    if ours and issubclass(kind, (dict, list)) and kind is not value:  # of a message, of state: to its user a dict
        kind = dict if issubclass(kind, dict) else list
    hidden = ours or kind.__module__ in ("builtins", "__main__")
    name = kind.__qualname__ if hidden else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, type):
        return f"the class {name}"
    if name == "bytes":
        return name
    made = f"an {name}" if name[0] in "AEIOaeio" else f"a {name}"
    return f"{made} (await it first)" if name == "coroutine" else made


def shown(value: object) -> str:
    """Return *value* as an error shows it: its repr if that is short, else its type.

    >>> shown("gone"), shown("x" * 1000), shown(10**1000)
    ("'gone'", 'a str of 1000 characters', 'an int')
    """
    if isinstance(value, str) and len(value) > _SHOWN:
        return f"a str of {len(value)} characters"
    text = ""
    with suppress(Exception):  # of a class of the caller's own, or of a number with too many digits
        text = repr(value)
    return text if 0 < len(text) <= _SHOWN else kind_of(value)


def check_choice(value: object, name: str, *accepted: str) -> None:
    """Raise unless *value* is one of the *accepted* words."""
    if not (isinstance(value, str) and value in accepted):
        words = [repr(str(each)) for each in accepted]
        raise InvalidValueError(name, f"is {shown(value)}; it is {', '.join(words[:-1])} or {words[-1]}")


def check_items(value: object, name: str, kinds: str) -> Iterable[Any]:
    """Return *value* if it is iterable and not text; *kinds* names the items in the error."""
    items: Any = value
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, bytearray, memoryview, type)):
        raise InvalidValueError(name, f"is {kind_of(items)}; it is a list of {kinds}")
    return cast("Iterable[Any]", items)


def check_progress(progress: object) -> None:
    """Raise unless *progress* is None or a function."""
    if progress is not None and not callable(progress):
        raise InvalidValueError("progress", f"is {kind_of(progress)}; it is a function that takes a number, or None")


def counted(count: int, noun: str) -> str:
    """Return a number of things: ``"1 message"``, ``"2 messages"``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def check_id(value: object, name: str) -> str:
    """Return *value* if it is a valid id: text of 1 to 1,024 bytes in UTF-8."""
    if type(value) is str and value.isascii() and 0 < len(value) <= MAX_ID_BYTES:  # most are
        return value
    if not isinstance(value, str):
        raise InvalidValueError(name, f"is {kind_of(value)}; {_remedy(value, name)}")
    text = check_text(value, name)
    size = _size(text)
    if not 0 < size <= MAX_ID_BYTES:
        raise InvalidValueError(name, f"is {size} bytes long; it is text, 1 to {MAX_ID_BYTES} bytes in UTF-8")
    return text


_WITHOUT = {
    "user_id": "it is text: give the id of a user",
    "session_id": "it is text; create_session() draws a new one",
    "message_id": "it is text; leave it out to have one drawn",
}
"""What to give where an id is None, by the name of the argument."""


def _remedy(value: object, name: str) -> str:
    """Return what to give for an id in place of *value*, which is no text."""
    from uuid import UUID  # not loaded before there is an error

    if value is None:
        return _WITHOUT.get(name, "it is text")
    if isinstance(value, (int, UUID)) and not isinstance(value, bool):
        return f"it is text: str({name})"
    if isinstance(value, bytes):
        return f"it is text: {name}.decode()"
    if name in getattr(
        type(value), "__dataclass_fields__", ()
    ):  # a Session, a SearchHit, a dataclass of the user's own
        return f"it is text: give its {name}"
    return "it is text"  # str(value) would be an id that is wrong, and that nothing refuses


def check_user(value: object, name: str = "user_id") -> str | None:
    """Return *value* if it is a valid user id, and None if it is ANYONE.

    Raises:
        InvalidValueError: It is None: a caller whose login failed would be given anyone's session.

    """
    if value is None:
        problem = f"is None; give the id of the user whose it must be, or leave {name} out to ask for no user"
        raise InvalidValueError(name, problem)
    if value is NOBODY:
        raise InvalidValueError(name, "is NOBODY, which list_sessions and count alone take; give the id of a user")
    return None if value is ANYONE else check_id(value, name)


def sought_id(value: object) -> str | None:
    """Return the session id to look for, or None if no session can have such an id.

    Such are None, and text that is empty or too long, which may come from a cookie or a url.

    Raises:
        InvalidValueError: It is of another type.

    """
    try:
        return check_id(value, "session_id")
    except InvalidValueError:
        if value is None or isinstance(value, str):
            return None
        raise


def existing_id(value: object) -> str:
    """Return the id of a session that must exist.

    Raises:
        SessionNotFoundError: No session can have such an id.
        InvalidValueError: It is neither text nor None.

    """
    session_id = sought_id(value)
    if session_id is None:
        raise SessionNotFoundError(value)
    return session_id


def _size(text: str) -> int:
    """Return how many bytes a text takes, counting a lone surrogate as three."""
    return len(text) if text.isascii() else len(well_formed(text).encode("utf-8", "surrogatepass"))


def belongs(owner: str | None, user_id: str | None) -> bool:
    """Return True if *user_id* is None (no check) or equals *owner*. A session without an owner belongs to no user.

    The comparison takes constant time, so a caller cannot learn an id by timing it.
    """
    if owner is None or user_id is None:
        return user_id is None
    from hmac import compare_digest  # loads OpenSSL: only callers that check users pay for it

    return compare_digest(owner.encode("utf-8", "surrogatepass"), user_id.encode("utf-8", "surrogatepass"))


def check_text(value: object, name: str) -> str:
    """Return *value* if it is text, made `well_formed`."""
    if not isinstance(value, str):
        raise InvalidValueError(name, f"is {kind_of(value)}; it is text")
    text = value if type(value) is str else str.__str__(value)  # a member of a `str` Enum is its text
    return text if text.isascii() else well_formed(text)


def is_utf8(text: str) -> bool:
    """Return whether a text can be written in UTF-8: it holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def well_formed(text: str) -> str:
    """Return *text* as JSON gives it back: a pair of surrogates becomes the character that it encodes.

    Streams that were cut inside a character and joined again contain such pairs. A lone surrogate stays.
    """
    return text if is_utf8(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def check_time(value: object, name: str) -> datetime:
    """Return *value* as a time in UTC. It is a datetime with a time zone, ISO 8601 text, or seconds since 1970."""
    # Not the name `datetime`, in whose place libraries for tests put their own.
    if type(value) is type(EPOCH) and value.tzinfo is timezone.utc:
        return value
    if isinstance(value, datetime):
        return _in_utc(value, name)
    if isinstance(value, str):
        return _in_utc(_time_of_text(value, name), name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value != value:  # noqa: PLR0124 (nan)
            raise InvalidValueError(name, f"is nan; {_TIMES}")
        try:
            return EPOCH + timedelta(seconds=value)
        except OverflowError:
            problem = f"is outside of the years 1 to 9999; {_TIMES}, not milliseconds"
            raise InvalidValueError(name, problem) from None
    raise InvalidValueError(name, f"is {kind_of(value)}; {_TIMES}")


def _in_utc(value: datetime, name: str) -> datetime:
    """Return a datetime in UTC, of Python's own class, which msgspec can write. Other libraries have subclasses."""
    if value.utcoffset() is None:
        remedy = "pass an aware datetime: datetime.now(timezone.utc), text that ends with Z, or seconds since 1970"
        raise InvalidValueError(name, f"has no time zone; {remedy}")
    try:
        utc = value.astimezone(timezone.utc)
    except OverflowError:
        raise InvalidValueError(name, f"is outside of the years 1 to 9999 of UTC; {_TIMES}") from None
    if type(utc) is type(EPOCH):
        return utc
    day = EPOCH.replace(year=utc.year, month=utc.month, day=utc.day)
    return day.replace(hour=utc.hour, minute=utc.minute, second=utc.second, microsecond=utc.microsecond)


def _time_of_text(text: str, name: str) -> datetime:
    try:
        return type(EPOCH).fromisoformat(text.removesuffix("Z") + "+00:00" * text.endswith("Z"))
    except ValueError:
        with suppress(msgspec.ValidationError, UnicodeEncodeError):  # Python 3.10 reads 3 or 6 digits of a second alone
            return msgspec.convert(text, type(EPOCH))
    raise InvalidValueError(name, f"is text that names no time; {_TIMES}")


def check_clock(clock: object) -> None:
    """Raise unless *clock* is a function that returns the current time, aware."""
    if not callable(clock):
        raise InvalidValueError("clock", f"is {kind_of(clock)}; it is a function that returns the current time, aware")
    now: object = clock()
    if not isinstance(now, datetime):
        raise InvalidValueError("clock()", f"is {kind_of(now)}; it is a datetime with a time zone")
    check_time(now, "clock()")


def check_timeout(value: object) -> float:
    """Return *value* if it is a number of seconds above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LONGEST_WAIT:
        raise InvalidValueError(
            "timeout", f"is {shown(value)}; it is a number of seconds, above 0 and at most {_LONGEST_WAIT}"
        )
    return value


def check_count(value: object, name: str, accepted: str = "a whole number of 0 or more") -> int:
    """Return *value* if it is a whole number of 0 or more; the error says what is *accepted*."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidValueError(name, f"is {shown(value)}; it is {accepted}")
    return int(value)


def check_limit(value: object, name: str) -> None:
    """Raise unless *value* is None or a whole number of 0 or more."""
    if value is not None:
        check_count(value, name, "a whole number of 0 or more, or None for all")


_LONGEST_REVISION = 1024


def check_expected(if_revision: object, what: str) -> None:
    """Raise unless *if_revision* is None or can be a revision of *what*."""
    if if_revision is not None and (not isinstance(if_revision, str) or len(if_revision) > _LONGEST_REVISION):
        raise InvalidValueError("if_revision", f"is {shown(if_revision)}; it is the revision of {what}, or None")
