"""The states of users and of the application, many at a time: exported, imported, erased, purged, checked, cleared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeGuard

from pyai_sessions.documents.envelopes import stored_text
from pyai_sessions.documents.keys import APP_STATE, is_state, user_state_key
from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.reading import stamp_of_value
from pyai_sessions.documents.shared_state import OTHERS, StoredState, read_state
from pyai_sessions.errors import EncryptionError, InvalidDocumentError, InvalidValueError
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.indexes import batches
from pyai_sessions.storage.protocol import Change
from pyai_sessions.values.checks import Clock, check_id, check_time
from pyai_sessions.values.codec import time_text
from pyai_sessions.values.json import is_mapping, plain_object

_KINDS = ("state/", "unreadable/")
_FIELDS = ("user_id", "shared_state", "updated_at", "expires_at")


def lines_of(backend: Backend, user_id: str | None, *, scan: bool) -> Iterator[str]:
    """Iterate over the lines of an export for the state of a user, or for all states (None), damaged ones included."""
    found = _all(backend, _KINDS) if user_id is None else _of_user(backend, user_id, scan=scan).items()
    for key, value in found:
        yield json.dumps(_line(key, value)) + "\n"


def _line(key: str, value: object) -> dict[str, Any]:
    try:
        return _as_json(read_state(value, key))
    except InvalidDocumentError:
        return {"key": key, "document": (stored_text(value) or b"").decode("utf-8", "backslashreplace")}


def states(
    backend: Backend, clock: Clock, on_invalid: Callable[[InvalidDocumentError], object] | None
) -> Iterator[dict[str, Any]]:
    """Iterate over all states that have not expired, each as the JSON object that `import_sessions` takes.

    Raises:
        InvalidDocumentError: A state cannot be read; see `exports.sessions`.

    """
    for key, value in _all(backend, ("state/",)):
        err = problem_of(backend, key, value)
        if err is None:
            stored = read_state(value, key)
            if not stored.is_over(clock):
                yield _as_json(stored)
        elif on_invalid is None or isinstance(err, EncryptionError):
            raise err
        else:
            on_invalid(err)


def _as_json(stored: StoredState) -> dict[str, Any]:
    times = {"updated_at": stored.updated_at, "expires_at": stored.expires_at}
    given = {name: time_text(time) for name, time in times.items() if time is not None}
    return {"user_id": stored.user_id, "shared_state": stored.state, **given, **stored.unknown}


def is_state_line(given: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether something that is imported is a state, not a session."""
    return is_mapping(given) and "shared_state" in given and "session_id" not in given


def read_line(line: Mapping[str, Any], terms: Terms) -> StoredState:
    """Return the state that an imported JSON object contains.

    Raises:
        InvalidValueError: A value of it is not acceptable.

    """
    unknown = sorted(map(str, line.keys() - _FIELDS))
    if unknown:
        raise InvalidValueError(unknown[0], f"is no field of a state; they are {', '.join(_FIELDS)}")
    user_id = line.get("user_id")
    if user_id is not None:
        terms.limits.check_id(check_id(user_id, "user_id"), "user_id")
    state = plain_object(line["shared_state"], "shared_state")
    terms.limits.check_depth(state, "shared_state")
    updated_at, expires_at = (None if line.get(each) is None else check_time(line[each], each) for each in _FIELDS[2:])
    return StoredState(user_id, "", state, updated_at, expires_at)


def erase(backend: Backend, user_id: str, *, scan: bool) -> tuple[int, list[str]]:
    """Erase a user's state, and damaged documents of it that were set aside.

    Return how many documents were erased, and the keys that only the *scan* found.
    """
    found = _of_user(backend, user_id, scan=scan)
    for key in found:
        backend.storage.write([Change(drop=[key])])
    own = [f"/{_place(key)}" for key in _own_keys(backend, user_id)]
    return len(found), [key for key in found if not any(each in f"{key}/" for each in own)]


def purge(backend: Backend, clock: Clock) -> None:
    """Remove expired states. A server that removes them by itself keeps those that were first stored without a ttl."""
    for key, value in _all(backend, ("state/",)):
        with suppress(InvalidDocumentError):
            if read_state(value, key).is_over(clock):
                backend.storage.write([Change([(key, stamp_of_value(value))], drop=[key])])


def clear(backend: Backend) -> None:
    """Remove all states, and damaged documents of states that were set aside."""
    for batch in batches(_keys(backend, _KINDS)):
        for key in batch:
            backend.storage.write([Change(drop=[key])])


def problem_of(backend: Backend, key: str, value: object) -> InvalidDocumentError | None:
    """Return the error of the state that is stored as *value* under *key*; None if it can be read."""
    try:
        user_id = read_state(value, key).user_id
    except InvalidDocumentError as err:
        return err
    right = [APP_STATE] if user_id is None else _own_keys(backend, user_id)
    return None if key in right else InvalidDocumentError(key, None, value, OTHERS)


# Keys -------------------------------------------------------------------------------------------------------------


def _own_keys(backend: Backend, user_id: str) -> list[str]:
    return [user_state_key(each) for each in backend.names.users(user_id)]


def _place(key: str) -> str:
    return key.partition("/")[2].partition("/")[0] + "/"


def _of_user(backend: Backend, user_id: str, *, scan: bool) -> dict[str, object]:
    """Return the documents under the keys of a user's state, and, with *scan*, all states that name the user."""
    storage = backend.storage
    own = _own_keys(backend, user_id)
    keys = [*own, *(key for each in own for key in storage.keys(f"unreadable/{_place(each)}") if is_state(key))]
    found = storage.read(list(dict.fromkeys(keys)))
    for key, value in _all(backend, _KINDS) if scan else ():
        with suppress(InvalidDocumentError):
            if read_state(value, key).user_id == user_id:
                found[key] = value
    return found


def _all(backend: Backend, kinds: Iterable[str]) -> Iterator[tuple[str, object]]:
    for batch in batches(_keys(backend, kinds)):
        yield from backend.storage.read(batch).items()


def _keys(backend: Backend, kinds: Iterable[str]) -> Iterator[str]:
    return (key for kind in kinds for key in backend.storage.keys(kind) if is_state(key))
