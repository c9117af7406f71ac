"""The state of users and of the application, where much is done at a time: export, erase, purge, verify, clear."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeGuard

from pyai_sessions.documents.envelopes import stored_text
from pyai_sessions.documents.keys import APP_STATE, is_state, user_state_key
from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.reading import stamp_of_value
from pyai_sessions.documents.shared_state import OTHERS, read_state
from pyai_sessions.errors import InvalidDocumentError, InvalidValueError
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.indexes import batches
from pyai_sessions.sessions.shared_state import SharedStates
from pyai_sessions.storage.protocol import Change
from pyai_sessions.values.checks import Clock, check_id, check_time
from pyai_sessions.values.codec import time_text
from pyai_sessions.values.json import is_mapping, plain_object

_KINDS = ("state/", "unreadable/")


def lines_of(backend: Backend, user_id: str | None, *, scan: bool) -> Iterator[str]:
    """Iterate over the lines of an export that have a user's state, or all states (None), and damaged documents."""
    found = _all(backend, _KINDS) if user_id is None else _of_user(backend, user_id, scan=scan).items()
    for key, value in found:
        yield _line(key, value)


def is_line(given: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether what is to be imported is the line of a state."""
    return is_mapping(given) and "shared_state" in given and "session_id" not in given


def store_line(backend: Backend, terms: Terms, line: Mapping[str, Any]) -> tuple[str | None, bool]:
    """Store the state of a line where there is none; return whose it is, and whether it is stored as it is given.

    Raises:
        InvalidValueError: A value of the line is not acceptable.

    """
    unknown = sorted(map(str, line.keys() - {"user_id", "shared_state", "expires_at"}))
    if unknown:
        raise InvalidValueError(unknown[0], "is no field of a state; they are user_id, shared_state, expires_at")
    user_id, end = line.get("user_id"), line.get("expires_at")
    if user_id is not None:
        terms.limits.check_id(check_id(user_id, "user_id"), "user_id")
    state = plain_object(line["shared_state"], "shared_state")
    terms.limits.check_depth(state, "shared_state")
    stored = SharedStates(backend, terms).insert(user_id, state, None if end is None else check_time(end, "expires_at"))
    return user_id, stored


def erase(backend: Backend, user_id: str, *, scan: bool) -> tuple[int, list[str]]:
    """Erase a user's state, and what was set aside of it; return how many documents, and the keys the *scan* found."""
    found = _of_user(backend, user_id, scan=scan)
    for key in found:
        backend.storage.write([Change(drop=[key])])
    own = [f"/{_place(key)}" for key in _own_keys(backend, user_id)]
    return len(found), [key for key in found if not any(each in f"{key}/" for each in own)]


def purge(backend: Backend, clock: Clock) -> None:
    """Remove the states that have expired. A server keeps those that had no end when they were first written."""
    for key, value in _all(backend, ("state/",)):
        with suppress(InvalidDocumentError):
            if read_state(value, key).is_over(clock):
                backend.storage.write([Change([(key, stamp_of_value(value))], drop=[key])])


def clear(backend: Backend) -> None:
    """Remove all states, and what was set aside of them."""
    for batch in batches(_keys(backend, _KINDS)):
        for key in batch:
            backend.storage.write([Change(drop=[key])])


def problem_of(backend: Backend, key: str, value: object) -> InvalidDocumentError | None:
    """Return what is wrong with the state that is stored as *value* under *key*; None where it can be read."""
    try:
        user_id = read_state(value, key).user_id
    except InvalidDocumentError as err:
        return err
    right = [APP_STATE] if user_id is None else _own_keys(backend, user_id)
    return None if key in right else InvalidDocumentError(key, None, value, OTHERS)


# Below: keys ------------------------------------------------------------------------------------------------------


def _own_keys(backend: Backend, user_id: str) -> list[str]:
    return [user_state_key(each) for each in backend.names.users(user_id)]


def _place(key: str) -> str:
    return key.partition("/")[2].partition("/")[0] + "/"


def _of_user(backend: Backend, user_id: str, *, scan: bool) -> dict[str, object]:
    """Return the documents of a user's state by their keys: those under his keys, and, to *scan*, all that name him."""
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


def _line(key: str, value: object) -> str:
    try:
        stored = read_state(value, key)
    except InvalidDocumentError:
        text = (stored_text(value) or b"").decode("utf-8", "backslashreplace")
        return json.dumps({"key": key, "document": text}) + "\n"
    end = {} if stored.expires_at is None else {"expires_at": time_text(stored.expires_at)}
    return json.dumps({"user_id": stored.user_id, "shared_state": stored.state, **end}) + "\n"
