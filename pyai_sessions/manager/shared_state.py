"""What a manager does with the state that sessions share: that of a user, and that of the application."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyai_sessions.manager.face import Face
from pyai_sessions.model.shared_state import SharedState
from pyai_sessions.sessions.shared_state import UNCHANGED, Unchanged, update_of
from pyai_sessions.sessions.trips import Asking, mending, sharing
from pyai_sessions.values.checks import check_id


class SharesState(Face):
    """The part of `SessionManager` that concerns the state of a user and of the application."""

    @sharing
    def user_state(self, user_id: str) -> Asking[SharedState]:
        """Return the state of a user: JSON of your own that all the user's sessions share. ``{}`` where there is none.

        It lies beside the sessions, in the store's namespace, and in no list or count. Costs one read.

        Raises:
            InvalidDocumentError: It is stored, but cannot be read.
            UnsupportedOperationError: A custom store keeps sessions alone.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> _ = manager.update_user_state("ada", {"theme": {"dark": True}})
        >>> manager.user_state("ada")
        {'theme': {'dark': True}}

        """
        user_id = check_id(user_id, "user_id")
        self._store.require("user_state")
        return (yield from self._engine.states.read(user_id))

    @mending
    def update_user_state(
        self,
        user_id: str,
        changes: Mapping[str, Any],
        *,
        remove: Iterable[str | Sequence[str]] = (),
        replace: bool = False,
        if_revision: str | None = None,
        ttl: int | Unchanged | None = UNCHANGED,
    ) -> SharedState:
        """Merge changes into the state of a user, in one commit; return the state as it is then.

        Dicts are merged by key, at every depth; any other value, a list or None too, replaces what was there. So two
        writers of different keys both succeed; of one key the later value stays. What changes nothing is not written.

        *remove* names what is removed first: a key, or a list of the keys that lead to a value; absent is fine. So
        ``{"theme": {}}, remove=["theme"]`` replaces a dict whole. *replace* removes all that is not in *changes*.

        *if_revision* writes only if nobody has since you read: ``manager.user_state("ada").revision``; "" means that
        there must be none yet. *ttl* lets the state expire so many seconds from now, or never (None); without it that
        stays as it is. The store's own ``ttl`` is that of sessions alone.

        A read and a write, in one transaction where the storage has such. Repeating it after a `StorageError` is right;
        with *if_revision*, a `StateConflictError` may then mean that the first try was stored.

        Raises:
            InvalidValueError: JSON cannot hold a part of *changes*, or the state would be larger than ``Limits`` say.
            StateConflictError: The state is not at *if_revision*. Nothing was written.
            InvalidDocumentError: What is stored cannot be read. It was left untouched.
            UnsupportedOperationError: A custom store keeps sessions alone.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> state = manager.update_user_state("ada", {"theme": {"dark": True}, "visits": 1})
        >>> manager.update_user_state("ada", {"theme": {"size": 12}}, remove=["visits"])
        {'theme': {'dark': True, 'size': 12}}
        >>> manager.update_user_state("ada", {"visits": 2}, if_revision=state.revision)
        Traceback (most recent call last):
        pyai_sessions.errors.StateConflictError: the state of user 'ada' was changed by another writer; ...

        """
        user_id = check_id(user_id, "user_id")
        return self._update_state(user_id, changes, remove=remove, replace=replace, if_revision=if_revision, ttl=ttl)

    @sharing
    def app_state(self) -> Asking[SharedState]:
        """Return the state of the application, which all sessions of the store share: of its namespace, if it has one.

        In all else it is as that of a user: see `user_state`.
        """
        self._store.require("app_state")
        return (yield from self._engine.states.read(None))

    @mending
    def update_app_state(
        self,
        changes: Mapping[str, Any],
        *,
        remove: Iterable[str | Sequence[str]] = (),
        replace: bool = False,
        if_revision: str | None = None,
        ttl: int | Unchanged | None = UNCHANGED,
    ) -> SharedState:
        """Merge changes into the state of the application, as `update_user_state` does into that of a user.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> manager.update_app_state({"models": {"chat": "small"}})
        {'models': {'chat': 'small'}}

        """
        return self._update_state(None, changes, remove=remove, replace=replace, if_revision=if_revision, ttl=ttl)

    def _update_state(self, user_id: str | None, changes: Mapping[str, Any], **options: Any) -> SharedState:
        self._store.require("update_state")
        update = update_of(self._plain(changes, "changes"), **options)
        return self._engine.states.update(user_id, update)
