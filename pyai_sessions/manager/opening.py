"""Which store the argument of a manager means: a store, a mapping, a `Storage`, a url, a path, another manager."""

from __future__ import annotations

import os
from typing import Any, cast

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.events import OnEvent
from pyai_sessions.manager.face import Manages
from pyai_sessions.model.session_store import SessionStore
from pyai_sessions.stores.four_methods import CustomSessionStore
from pyai_sessions.stores.kv import KVSessionStore
from pyai_sessions.stores.makers import MemorySessionStore, open_store
from pyai_sessions.values.checks import Clock, check_clock, kind_of
from pyai_sessions.values.json import Default


def opened(store: Any, index: Any, clock: Clock | None, *, close_store: bool) -> tuple[KVSessionStore, bool]:
    """Return the store that a manager's arguments mean, and whether the manager closes it."""
    if isinstance(store, Manages):
        store = made = store._store  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    elif isinstance(store, KVSessionStore):
        made = store
    elif isinstance(store, SessionStore) or _has_four_methods(store):
        made = CustomSessionStore(store, index)
        if close_store:
            made.check_closes()
    elif store is None:
        made = MemorySessionStore()
    else:
        named = isinstance(store, (str, os.PathLike))
        made = open_store(cast("str", store)) if named else KVSessionStore(store)
        if close_store and not named:
            made.take_over()
    if index is not None and not isinstance(made, CustomSessionStore):
        problem = f"was given beside {kind_of(made)}, which has indexes of its own; leave it out"
        raise InvalidValueError("index", problem)
    if clock is not None:
        check_clock(clock)
        made.clock = clock
    return made, close_store or (made is not store and not isinstance(made, CustomSessionStore))


def inherited(
    store: object, default: Default | None, on_event: OnEvent | None
) -> tuple[Default | None, OnEvent | None]:
    """Return what a manager converts and tells by: what it is given, or what the manager has that it is made of."""
    if isinstance(store, Manages):
        return default or store._default, on_event or store._on_event  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return default, on_event


def store_of(target: object) -> tuple[KVSessionStore, bool]:
    """Return the store that sessions are to be copied to, and whether it was made here, so that it is to be closed."""
    if target is None:
        raise InvalidValueError("target", "is None; it is a manager, a store, a mapping or a url to copy to")
    return opened(target, None, None, close_store=False)


def _has_four_methods(store: object) -> bool:
    methods = ("save", "get", "delete", "list_for_user")
    return not isinstance(store, type) and all(hasattr(store, each) for each in methods)
