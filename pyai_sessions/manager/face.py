"""What all parts of a manager have: its store, and how values are made JSON on their way in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pyai_sessions.concurrency.processes import OfOneProcess
from pyai_sessions.events import OnEvent
from pyai_sessions.model.session import Session, history_of, use_default
from pyai_sessions.search.index import SearchIndex, index_in_file
from pyai_sessions.sessions.engine import Engine
from pyai_sessions.stores.kv import KVSessionStore
from pyai_sessions.values.json import Default, converting, plain_object
from pyai_sessions.values.patches import Patch, patch

T = TypeVar("T", bound=Session | None)


class Manages(OfOneProcess):
    """A manager, sync or async: its store, what converts values for it, and what is told of its calls."""

    _store: KVSessionStore
    _closes: bool
    _default: Default | None
    _on_event: OnEvent | None


class Face(Manages):
    """The base of the parts of a sync manager. Their methods are the calls themselves, over the engine of the store."""

    _engine: Engine

    @property
    def _indexes(self) -> dict[str, SearchIndex]:
        """The search indexes that lie in no file of the sessions, by the prefixes of namespaces."""
        found: dict[str, SearchIndex] = self._store.shared.setdefault("search", {})
        return found

    def _search_index(self) -> SearchIndex | None:
        """Return the search index, if there can be one."""
        backend = self._engine.backend
        return index_in_file(backend) or self._indexes.get(backend.under)

    def _forget_words(self) -> None:
        """Take words out of the search index that are in no message any more."""
        index = self._search_index()
        if index is not None:
            index.erase()

    def _work_on(self, store: KVSessionStore, *, closes: bool) -> None:
        self._store, self._closes = store, closes
        self._engine = store._engine  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def _opened(self, found: T) -> T:
        """Return a session that a store gave, which from now on converts what it is given by ``default``."""
        if found is not None and self._default is not None:
            use_default(found, self._default)
        return found

    def _plain(self, given: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
        """Return an argument as plain JSON, made so by ``default`` where that is needed; None stays None."""
        if given is None:
            return None
        with converting(self._default):
            return plain_object(given, name)

    def _patch(self, given: Mapping[str, Any] | None, remove: Iterable[str | Sequence[str]], name: str) -> Patch:
        """Return the change of metadata, or of state, that an argument and what is to be removed mean."""
        return patch(self._plain(given, name), remove, name)

    def _new_session(
        self,
        user_id: str | None,
        session_id: str | None,
        metadata: Mapping[str, Any] | None,
        state: Mapping[str, Any] | None,
        title: str | None = None,
    ) -> Session:
        """Return a session that is not stored yet."""
        given: dict[str, Any] = {"session_id": session_id, "metadata": metadata, "state": state, "title": title}
        given = {key: value for key, value in given.items() if value is not None}
        clock = self._store.clock
        now = clock()
        with converting(self._default):
            session = Session(user_id=user_id, created_at=now, updated_at=now, **given)
        history_of(session).clock = clock
        return use_default(session, self._default)
