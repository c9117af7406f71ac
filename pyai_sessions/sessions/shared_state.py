"""Reading and writing the state of a user, or of the application, which all their sessions share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from pyai_sessions.documents.keys import APP_STATE, user_state_key
from pyai_sessions.documents.limits import Terms, check_ttl, time_left
from pyai_sessions.documents.reading import stamp_of_value
from pyai_sessions.documents.shared_state import (
    StoredState,
    read_state_of,
    start_of_state,
)
from pyai_sessions.errors import InvalidValueError, StateConflictError
from pyai_sessions.model.shared_state import SharedState
from pyai_sessions.sessions.attempts import until_done
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.trips import Asking, Read, Trips
from pyai_sessions.storage.protocol import Change
from pyai_sessions.values.checks import check_expected, check_time, shown
from pyai_sessions.values.joined import is_same
from pyai_sessions.values.json import plain_object, write
from pyai_sessions.values.patches import Patch, patch
from pyai_sessions.values.tokens import new_token

T = TypeVar("T")


class Unchanged(Enum):
    """The type of `UNCHANGED`."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return self.name


UNCHANGED = Unchanged.UNCHANGED
"""The default of *ttl*: the time at which a state expires does not change."""


class Update(NamedTuple):
    """A change of a state: *patch* is applied to the stored state, or, with *replace*, to an empty one."""

    patch: Patch
    replace: bool = False
    if_revision: str | None = None
    ttl: int | Unchanged | None = UNCHANGED

    def of(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return *state* after the change."""
        return self.patch.of({} if self.replace else state)


def update_of(
    changes: object, *, remove: object, replace: object, if_revision: str | None, ttl: int | Unchanged | None
) -> Update:
    """Return the arguments of an update as one change.

    Raises:
        InvalidValueError: One of them is not acceptable.

    """
    made = patch(plain_object(changes, "changes"), remove, "changes", "remove")
    if not isinstance(replace, bool):
        raise InvalidValueError("replace", f"is {shown(replace)}; it is True or False")
    check_expected(if_revision, "a state: manager.user_state(user_id).revision")
    lives = ttl if ttl is None or isinstance(ttl, Unchanged) else check_ttl(ttl)
    return Update(made, replace, if_revision, lives)


class SharedStates:
    """Reads and writes the states of users, and of the application (the user None)."""

    def __init__(self, backend: Backend, terms: Terms) -> None:
        self._backend = backend
        self._terms = terms

    def keys(self, user_id: str | None) -> list[str]:
        """Return the keys under which a state may be stored, the usual one first.

        While a storage is being encrypted, there is a second one, which names the user in the clear.
        """
        return [APP_STATE] if user_id is None else [user_state_key(each) for each in self._backend.names.users(user_id)]

    def read(self, user_id: str | None) -> Asking[SharedState]:
        """Return a state, in one round trip; an empty one if none is stored."""
        keys = self.keys(user_id)
        found = yield Read(keys)
        if len(keys) > 1 and not any(key in found for key in keys):
            found = yield Read(keys[:1])  # it was moved to the first key while they were read
        return _shown(self._stored(found, user_id))

    def update(self, user_id: str | None, update: Update) -> SharedState:
        """Change a state in one commit, and return it as it is then.

        Raises:
            StateConflictError: The state does not have the revision that the update expects.

        """
        self._check(user_id, update)
        backend, keys, revision = self._backend, self.keys(user_id), new_token(9)

        def attempt() -> SharedState | None:
            found = backend.storage.read(keys)
            stored = self._stored(found, user_id)
            made = None if _has(stored, revision) else self._made(stored, update, revision)
            done = made is None or self._write(keys, found, made)
            return _shown(made or stored) if done else None

        return until_done(backend, "", attempt, _name(user_id))

    def beside(self, call: Asking[T], changes: Sequence[tuple[str | None, Patch]]) -> Asking[T]:
        """Change states and make a *call*, in one step where the storage has such; return what the call returns.

        Where it has none, the states follow the call. What cannot be stored of them raises before it.
        """
        yield None
        updates = [(user_id, Update(each)) for user_id, each in changes]
        with self._backend.storage.exclusive():
            for user_id, update in updates:
                self._check(user_id, update)
                self._made(self._stored(self._backend.storage.read(self.keys(user_id)), user_id), update, "")
            result = Trips(self._backend).alone(call)
            for user_id, update in updates:
                self.update(user_id, update)
        return result

    def insert(self, given: StoredState, replaces: Callable[[StoredState], bool]) -> bool:
        """Store a state if none is stored, or if *replaces* is true of the stored one; return whether it is stored.

        *given* has no revision yet.
        """
        user_id, keys, revision = given.user_id, self.keys(given.user_id), new_token(9)
        self._terms.limits.check_size(len(write(given.state)), "shared_state", "state_bytes")

        def attempt() -> bool | None:
            found = self._backend.storage.read(keys)
            stored = self._stored(found, user_id)
            if _has(stored, revision) or _is_same(stored, given):
                return True
            if stored.revision and not replaces(stored):
                return False
            made = stored.followed_by(revision, given.state, given.updated_at or self._now(), given.expires_at)
            return self._write(keys, found, made) or None

        return until_done(self._backend, "", attempt, _name(user_id))

    def holds(self, given: StoredState) -> bool:
        """Return whether the same state is stored."""
        return _is_same(self._stored(self._backend.storage.read(self.keys(given.user_id)), given.user_id), given)

    def _check(self, user_id: str | None, update: Update) -> None:
        limits = self._terms.limits
        if user_id is not None:
            limits.check_id(user_id, "user_id")
        limits.check_depth(update.patch.changes, "changes")

    def _now(self) -> datetime:
        return check_time(self._terms.clock(), "clock()")

    def _stored(self, found: Mapping[str, object], user_id: str | None) -> StoredState:
        """Return the state among the *found* documents; an empty one if there is none, or it has expired."""
        key = next((each for each in self.keys(user_id) if each in found), None)
        if key is None:
            return StoredState(user_id, "", {})
        stored = read_state_of(found[key], key, user_id)
        return StoredState(user_id, "", {}, unknown=stored.unknown) if stored.is_over(self._terms.clock) else stored

    def _made(self, stored: StoredState, update: Update, revision: str) -> StoredState | None:
        """Return the stored state as an update changes it; None if it changes nothing."""
        if update.if_revision is not None and update.if_revision != stored.revision:
            raise StateConflictError(stored.user_id, update.if_revision, stored.revision)
        state, end, now = update.of(stored.state), stored.expires_at, self._now()
        if not isinstance(update.ttl, Unchanged):
            end = None if update.ttl is None else now + timedelta(seconds=update.ttl)
        if is_same(state, stored.state) and end == stored.expires_at:
            return None
        size = len(write(state))
        if size > len(write(stored.state)):  # a state that is too large already may shrink
            self._terms.limits.check_size(size, "state", "state_bytes")
        return stored.followed_by(revision, state, now, end)

    def _write(self, keys: Sequence[str], found: Mapping[str, object], made: StoredState) -> bool:
        """Store a state if the stored documents are still the *found* ones; return whether it is stored."""
        key, *others = keys
        lives = time_left(made.expires_at, self._terms.clock)
        expect = [(key, stamp_of_value(found.get(key)))]
        change = Change(expect, start_of_state(made.revision), [(key, made.written())], lives=lives)
        if not self._backend.storage.write([change])[0]:
            return False
        for other in others:  # the document that names the user in the clear, while the storage is being encrypted
            if other in found:
                self._backend.storage.write([Change([(other, stamp_of_value(found[other]))], drop=[other])])
        return True


def _has(stored: StoredState, revision: str) -> bool:
    """Return whether the write of this revision was stored: its reply was lost, and the client sent it again."""
    return revision == stored.revision or revision in stored.former


def _is_same(stored: StoredState, given: StoredState) -> bool:
    return bool(stored.revision) and stored.expires_at == given.expires_at and is_same(stored.state, given.state)


def _name(user_id: str | None) -> str:
    return "the state of the application" if user_id is None else f"the state of user {user_id!r}"


def _shown(stored: StoredState) -> SharedState:
    return SharedState(stored.state, stored.revision, stored.expires_at)
