"""Reading and writing the state of a user, or of the application, which sessions share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple

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
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.loading import Attempts
from pyai_sessions.sessions.trips import Asking, Read
from pyai_sessions.storage.protocol import Change
from pyai_sessions.values.checks import check_expected, check_time, shown
from pyai_sessions.values.joined import is_same
from pyai_sessions.values.json import plain_object, write
from pyai_sessions.values.patches import Patch, patch
from pyai_sessions.values.tokens import new_token


class Unchanged(Enum):
    """The default of a ``ttl`` that is to stay as it is."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return self.name


UNCHANGED = Unchanged.UNCHANGED
"""Leaves the time at which a state expires as it is."""


class Update(NamedTuple):
    """A change of state: with *replace* all goes that is there, else what *patch* removes; then that is merged in."""

    patch: Patch
    replace: bool = False
    if_revision: str | None = None
    ttl: int | Unchanged | None = UNCHANGED

    def of(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return *state* as it is after the change."""
        return self.patch.of({} if self.replace else state)


def update_of(
    changes: object, *, remove: object, replace: object, if_revision: str | None, ttl: int | Unchanged | None
) -> Update:
    """Return the change that the arguments of a call mean.

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
    """The states of users and of the application in a backend, on a store's terms."""

    def __init__(self, backend: Backend, terms: Terms) -> None:
        self._backend = backend
        self._terms = terms

    def keys(self, user_id: str | None) -> list[str]:
        """Return the keys under which the state of a user may lie, or of the application (None); the usual one first.

        A storage that is being encrypted may have it under a second one, by the user's plain name.
        """
        return [APP_STATE] if user_id is None else [user_state_key(each) for each in self._backend.names.users(user_id)]

    def read(self, user_id: str | None) -> Asking[SharedState]:
        """Return the state of a user, or of the application (None), in one trip; an empty one where there is none."""
        keys = self.keys(user_id)
        found = yield Read(keys)
        if len(keys) > 1 and not any(key in found for key in keys):
            found = yield Read(keys[:1])  # it was moved there between the two looks
        return _shown(self._stored(found, user_id))

    def update(self, user_id: str | None, update: Update) -> SharedState:
        """Change the state of a user, or of the application (None), in one commit; return it as it is then.

        Raises:
            StateConflictError: It is not at the revision that is expected.

        """
        limits = self._terms.limits
        if user_id is not None:
            limits.check_id(user_id, "user_id")
        limits.check_depth(update.patch.changes, "changes")
        backend, keys, revision = self._backend, self.keys(user_id), new_token(9)
        whose = "the state of the application" if user_id is None else f"the state of user {user_id!r}"
        result = SharedState()
        for _ in Attempts(backend, "", whose):
            with backend.storage.exclusive():
                found = backend.storage.read(keys)
                stored = self._stored(found, user_id)
                made = None if _has(stored, revision) else self._made(stored, update, revision)
                done = made is None or self._write(keys, found, made)
            if done:  # only now: leaving the block commits
                result = _shown(made or stored)
                break
        return result

    def insert(self, user_id: str | None, state: dict[str, Any], expires_at: datetime | None) -> bool:
        """Store a state of a user, or of the application (None), where there is none; return whether it is stored now.

        It counts as stored, too, where it was before, and is the same.
        """
        made = StoredState(user_id, "", {}).followed_by(new_token(9), state, expires_at)
        self._terms.limits.check_size(len(write(state)), "shared_state", "state_bytes")
        keys, same = self.keys(user_id), False
        for _ in Attempts(self._backend, "", "the state of a user or of the application"):
            with self._backend.storage.exclusive():
                found = self._backend.storage.read(keys)
                stored = self._stored(found, user_id)
                same = stored.expires_at == expires_at and is_same(stored.state, state)
                done = bool(stored.revision) or self._write(keys, found, made)
            if done:
                return same or not stored.revision
        return False

    def _stored(self, found: Mapping[str, object], user_id: str | None) -> StoredState:
        """Return what is stored, among what was *found*; without a state where there is none, or it has expired."""
        key = next((each for each in self.keys(user_id) if each in found), None)
        if key is None:
            return StoredState(user_id, "", {})
        stored = read_state_of(found[key], key, user_id)
        return StoredState(user_id, "", {}, unknown=stored.unknown) if stored.is_over(self._terms.clock) else stored

    def _made(self, stored: StoredState, update: Update, revision: str) -> StoredState | None:
        """Return what an update makes of what is stored; None where it changes nothing."""
        if update.if_revision is not None and update.if_revision != stored.revision:
            raise StateConflictError(stored.user_id, update.if_revision, stored.revision)
        state, end = update.of(stored.state), stored.expires_at
        if not isinstance(update.ttl, Unchanged):
            now = check_time(self._terms.clock(), "clock()")
            end = None if update.ttl is None else now + timedelta(seconds=update.ttl)
        if is_same(state, stored.state) and end == stored.expires_at:
            return None
        size = len(write(state))
        if size > len(write(stored.state)):  # what is stored already may shrink, whatever its size
            self._terms.limits.check_size(size, "state", "state_bytes")
        return stored.followed_by(revision, state, end)

    def _write(self, keys: Sequence[str], found: Mapping[str, object], made: StoredState) -> bool:
        """Store a state if what is stored is still what was *found*; return whether that is done."""
        key, *others = keys
        lives = time_left(made.expires_at, self._terms.clock)
        expect = [(key, stamp_of_value(found.get(key)))]
        change = Change(expect, start_of_state(made.revision), [(key, made.written())], lives=lives)
        if not self._backend.storage.write([change])[0]:
            return False
        for other in others:  # what lay there by the user's plain name, while the storage is being encrypted
            if other in found:
                self._backend.storage.write([Change([(other, stamp_of_value(found[other]))], drop=[other])])
        return True


def _has(stored: StoredState, revision: str) -> bool:
    """Return whether a write was stored whose reply was lost, so that the client sent it again."""
    return revision == stored.revision or revision in stored.former


def _shown(stored: StoredState) -> SharedState:
    return SharedState(stored.state, stored.revision, stored.expires_at)
