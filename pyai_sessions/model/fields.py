"""The fields of a session: each value is checked when it is assigned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex, cast

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.model.points import Checkpoint, Parent, Summary
from pyai_sessions.model.titles import check_title
from pyai_sessions.values.checks import check_choice, check_id, check_time, kind_of, shown
from pyai_sessions.values.containers import JSONDict, guarded
from pyai_sessions.values.json import Default, converting, plain_object


def check_status(value: object, name: str = "status") -> SessionStatus:
    """Return the status that *value* is or names."""
    if type(value) is SessionStatus:
        return value
    check_choice(value, name, *SessionStatus)
    return SessionStatus(value)


def check_statuses(value: object) -> tuple[SessionStatus, ...]:
    """Return the statuses that *value* selects: the one that it is or names, or both for None."""
    if type(value) is SessionStatus:
        return (value,)
    if value is None:
        return tuple(SessionStatus)
    if isinstance(value, str) and value in tuple(SessionStatus):
        return (SessionStatus(value),)
    raise InvalidValueError("status", f"is {shown(value)}; it is 'active', 'archived', or None for both")


class Checkpoints(list[Checkpoint]):
    """A session's checkpoints: a list that accepts nothing else. A copy of it is a plain list."""

    def __new__(cls, items: Iterable[Any] = (), /) -> Any:  # noqa: D102 (`dataclasses.asdict` calls it)
        return list(items)

    def __setitem__(self, index: Any, value: Any, /) -> None:
        super().__setitem__(index, _checkpoints(value) if isinstance(index, slice) else _checkpoints([value])[0])

    def append(self, value: Checkpoint, /) -> None:
        """Add a checkpoint at the end."""
        super().append(*_checkpoints([value]))

    def extend(self, values: Iterable[Checkpoint], /) -> None:
        """Add checkpoints at the end."""
        super().extend(_checkpoints(values))

    def __iadd__(self, values: Any, /) -> Any:  # type: ignore[misc]
        self.extend(values)
        return self

    def insert(self, index: SupportsIndex, value: Checkpoint, /) -> None:
        """Insert a checkpoint before a place."""
        super().insert(index, *_checkpoints([value]))

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        """Copy as a plain list."""
        return list, (list(self),)


def _checkpoints(values: object) -> list[Checkpoint]:
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes)):
        raise InvalidValueError("checkpoints", f"is {kind_of(values)}; it is a list of Checkpoint")
    made = list(cast("Iterable[object]", values))
    for n, each in enumerate(made):
        if not isinstance(each, Checkpoint):
            raise InvalidValueError(f"checkpoints[{n}]", f"is {kind_of(each)}; it is a Checkpoint")
    return cast("list[Checkpoint]", made)


def check_checkpoints(value: object, _: str) -> Checkpoints:
    """Return a list of checkpoints, copied."""
    made: Checkpoints = list.__new__(Checkpoints)
    list[Checkpoint].extend(made, _checkpoints(value))
    return made


def _or_none(kind: type) -> Callable[[object, str], object]:
    def check(value: object, name: str) -> object:
        if value is not None and not isinstance(value, kind):
            raise InvalidValueError(name, f"is {kind_of(value)}; it is a {kind.__name__}, or None")
        return value

    return check


CHECKS: dict[str, Callable[[object, str], object]] = {
    "session_id": check_id,
    "user_id": lambda value, name: None if value is None else check_id(value, name),
    "title": check_title,
    "status": check_status,
    "created_at": check_time,
    "updated_at": check_time,
    "checkpoints": check_checkpoints,
    "parent": _or_none(Parent),
    "summary": _or_none(Summary),
}
"""Functions that check a value assigned to a field. Metadata and state are `JSONField`; messages cannot be assigned."""


class JSONField:
    """A field of a session that holds a JSON object: a dict that checks the values put into it.

    A loaded session has a plain dict, which is wrapped when the field is first read: an unread field costs nothing.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, session: object | None, owner: type) -> Any:
        if session is None:
            return self
        values = vars(session)
        try:
            value = values[self._name]
        except KeyError:
            raise AttributeError(self._name) from None
        if type(value) is not JSONDict:
            value = values[self._name] = guarded(value, self._name, default_of(session))
        return value

    def __set__(self, session: object, value: Any) -> None:
        default = default_of(session)
        if default is None:  # while a session is being made, the manager's default is in force
            made = plain_object(value, self._name)
        else:
            with converting(default):
                made = plain_object(value, self._name)
        vars(session)[self._name] = made


def default_of(session: object) -> Default | None:
    """Return the function that converts values given to a session that JSON cannot hold, if there is one."""
    history = vars(session).get("_history")
    return None if history is None else cast("Default | None", history.default)


def check_attribute(session: object, name: str) -> None:
    """Raise unless a session has an assignable attribute of this name. A misspelled one would not be stored."""
    kinds = type(session).__mro__
    found = next((vars(kind)[name] for kind in kinds if name in vars(kind)), check_attribute)
    if isinstance(found, property) and found.fset is None:
        raise InvalidValueError(name, "cannot be assigned to; the session computes it")
    if found is check_attribute and not any(name in vars(kind).get("__annotations__", ()) for kind in kinds):
        problem = "is no field of a session; keep it in session.metadata or session.state"
        raise InvalidValueError(f"session.{name}", problem)


def check_stored(session: object, stored: frozenset[str]) -> None:
    """Raise if a session has fields that would not be stored, because a subclass added them."""
    for name in vars(session).keys() - stored:
        if not name.startswith("_"):
            problem = (
                f"is a field that {type(session).__name__} adds, and would not be stored; put it into metadata or state"
            )
            raise InvalidValueError(name, problem)
