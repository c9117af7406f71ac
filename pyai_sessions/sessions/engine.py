"""`Engine`: the objects that read and write the sessions of a store, or of one namespace of it."""

from __future__ import annotations

from collections import deque
from copy import copy
from typing import cast

from pyai_sessions.documents.limits import Terms
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.changing import Changer
from pyai_sessions.sessions.deleting import Deleter
from pyai_sessions.sessions.lists import Lister
from pyai_sessions.sessions.loading import Loader, Wants
from pyai_sessions.sessions.saving import Saver
from pyai_sessions.sessions.scrolling import Scroller
from pyai_sessions.sessions.shared_state import SharedStates
from pyai_sessions.sessions.statuses import Archiver
from pyai_sessions.sessions.switching import Switcher
from pyai_sessions.sessions.trips import Trips
from pyai_sessions.sessions.updating import Updater
from pyai_sessions.values.recent import Part, Recent
from pyai_sessions.values.tokens import new_token

_RECENT = 32 * 1024 * 1024
"""Bytes of remembered heads, and ids of pages, of sessions that were appended to."""

_ENGINE = 10_000
"""Bytes that the engine of a namespace takes."""


class Engine:
    """The objects that read and write sessions, each in one way: `loader`, `saver`, `lister` and so on.

    Args:
        backend: Where the sessions are.
        terms: The limits, the clock and the ttl of the store.

    Attributes:
        trips: Runs the calls that can share round trips.
        home: Names the store and its namespace in the sessions that are loaded from it.

    """

    def __init__(self, backend: Backend, terms: Terms) -> None:
        self.home = new_token(6)
        self._recent: Recent[object] = Recent(_RECENT)
        self._wants = Wants()
        self._switched: deque[tuple[str, str, str]] = deque(maxlen=1000)
        self._work_in(backend, terms)

    def _work_in(self, backend: Backend, terms: Terms) -> None:
        self.backend = backend
        self.trips = Trips(backend)
        self.use(terms)

    def use(self, terms: Terms) -> None:
        """Use other limits, another clock or another ttl from now on."""
        backend = self.backend
        self.terms = terms = terms._replace(paged=backend.storage.paged)
        self.loader = Loader(backend, terms, self._wants, self.home)
        self.saver = Saver(backend, terms, self._recent, self.home)
        self.updater = Updater(backend, self._recent)
        self.scroller = Scroller(backend, terms, self._recent)
        self.changer = Changer(backend, terms, self._recent)
        self.switcher = Switcher(self.loader, self._switched)
        self.archiver = Archiver(backend, terms)
        self.deleter = Deleter(backend, terms, self._recent)
        self.lister = Lister(self.loader)
        self.states = SharedStates(backend, terms)

    def count_trips(self) -> None:
        """Count round trips and bytes from now on, for a manager's ``on_event=``."""
        self._work_in(self.backend.counting(), self.terms)

    def part(self, namespace: str, under: str) -> Engine:
        """Return the engine of a namespace, whose keys begin with *under*. The latest ones are remembered."""
        of = (self.backend, self.terms)
        made = cast("tuple[object, Engine] | None", self._recent.get(("engine", namespace)))
        if made is None or made[0] != of:
            engine = copy(self)
            engine.home = f"{self.home}/{under}"
            engine._recent = Part(self._recent, namespace)  # noqa: SLF001 (its own class)
            engine._work_in(self.backend.part(under), self.terms)  # noqa: SLF001
            made = of, engine
            self._recent.put(("engine", namespace), made, _ENGINE)
        return made[1]
