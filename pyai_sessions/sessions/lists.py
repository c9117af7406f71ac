"""Lists of sessions, of one user or of all: whole sessions, summaries, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from pyai_sessions.documents.keys import encode_id, page_keys
from pyai_sessions.documents.reading import summarize
from pyai_sessions.errors import EncryptionError, InvalidDocumentError
from pyai_sessions.model.fields import check_statuses
from pyai_sessions.model.heads import SessionStatus, StoredHead, microseconds
from pyai_sessions.model.listed import SessionSummary, SummaryPage
from pyai_sessions.model.session import Session, history_of
from pyai_sessions.sessions import indexes
from pyai_sessions.sessions.filters import (
    Order,
    check_order,
    check_owner,
    check_where,
    fits,
    in_order,
    is_indexed,
    sort_key,
)
from pyai_sessions.sessions.loading import Loader, load
from pyai_sessions.sessions.trips import Trips
from pyai_sessions.storage.protocol import Position
from pyai_sessions.values.checks import Anyone, Nobody, check_id, check_limit, check_time

_TOGETHER = 20
"""Sessions whose pages are read together."""

_PAGES = 500
"""Pages of a session up to which it is read together with others. A longer one takes a round trip of its own."""


class _Chosen(NamedTuple):
    """Which sessions are listed: those of one user (None: of all), or *of_nobody*, that fit a filter of metadata."""

    owner: str | None
    of_nobody: bool
    where: dict[str, Any]
    statuses: Sequence[SessionStatus]

    @classmethod
    def of(
        cls, user_id: str | Anyone | Nobody, where: Mapping[str, Any] | None, status: SessionStatus | None
    ) -> _Chosen:
        """Return what the arguments of a list mean, checked."""
        return cls(*check_owner(user_id), check_where(where), check_statuses(status))

    @property
    def is_filtered(self) -> bool:
        """Whether the index has other sessions, too."""
        return bool(self.where) or self.of_nobody


class Lister:
    """Lists sessions."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._backend, self._terms = loader.backend, loader.terms

    def sessions(
        self, user_id: str, *, limit: int | None, before: datetime | None, include_archived: bool, skip_invalid: bool
    ) -> list[Session]:
        """Return a user's sessions; see `SessionManager.get_sessions_for_user`.

        Costs one index read and one read of heads per 100 sessions, and one read of pages per 20.
        """
        user_id = check_id(user_id, "user_id")
        check_limit(limit, "limit")
        sessions: list[Session] = []
        if limit == 0:
            return sessions
        after = None if before is None else (microseconds(check_time(before, "before")), "")
        statuses = indexes.ALL if include_archived else (SessionStatus.ACTIVE,)
        found = indexes.walk(
            self._backend,
            user_id,
            statuses,
            after,
            limit=limit,
            on_invalid=_ignore if skip_invalid else None,
            clock=self._terms.clock,
            known=set(),
            whole=limit is None,
        )
        while together := list(islice(found, _TOGETHER if limit is None else min(_TOGETHER, limit - len(sessions)))):
            loaded = self._loaded([stored for _, stored in together], user_id, skip_invalid=skip_invalid)
            sessions += [each for each in loaded if each.status in statuses]
        if limit is None:  # sessions that became active meanwhile came last
            sessions.sort(key=lambda each: (each.active_at, encode_id(each.session_id)), reverse=True)
        return sessions

    def _loaded(self, heads: list[StoredHead], user_id: str, *, skip_invalid: bool) -> Iterator[Session]:
        """Iterate over the sessions of heads; over those that are still the user's, where they were rewritten since."""
        most = self._terms.limits.pages
        few = [stored for stored in heads if stored.pages <= min(_PAGES, most)]
        keys = [key for stored in few for key in page_keys(stored.head.sealed)]
        pages = self._backend.storage.read(keys) if keys else {}
        for stored in heads:
            session_id = stored.head.session_id
            try:
                session = load(self._backend, stored, self._terms.clock, wanted=stored.sealed, known=pages, most=most)
                session = session or Trips(self._backend).alone(self._loader.load(session_id, user_id))
            except InvalidDocumentError as err:
                if not skip_invalid:
                    raise
                _ignore(err)
                continue
            if session is not None:
                history_of(session).home = self._loader.home
                yield session

    def summaries(
        self,
        user_id: str | Anyone | Nobody,
        *,
        where: Mapping[str, Any] | None,
        status: SessionStatus | None,
        order: Order,
        limit: int | None,
        cursor: str | None,
        skip_invalid: bool,
    ) -> SummaryPage:
        """Return a page of summaries; see `SessionManager.list_sessions`."""
        check_limit(limit, "limit")
        chosen = _Chosen.of(user_id, where, status)
        indexed = is_indexed(check_order(order))
        after = indexes.position_of(cursor) if indexed else None
        if not indexed:
            sort_key(cursor, order)
        if limit == 0:
            return SummaryPage()
        if not indexed:
            walked = self._walk(chosen, skip_invalid=skip_invalid)
            return SummaryPage(*in_order((each for _, each in walked if each is not None), order, cursor, limit))
        newest_first = order == "newest"
        found = self._walk(chosen, newest_first=newest_first, limit=limit, after=after, skip_invalid=skip_invalid)
        page: list[SessionSummary] = []
        last = next_cursor = None
        for position, summary in found:
            if len(page) == limit and summary is not None:
                next_cursor = None if last is None else indexes.cursor_of(last)
                break
            if summary is not None:
                page.append(summary)
            last = position
        if limit is None:  # sessions that became active meanwhile came last
            page.sort(key=lambda each: (each.active_at, encode_id(each.session_id)), reverse=newest_first)
        return SummaryPage(page, next_cursor)

    def users(self, *, status: SessionStatus | None) -> dict[str | None, int]:
        """Return how many sessions each user has; see `SessionManager.users`."""
        found = Counter[str | None]()
        walk = indexes.walk(self._backend, None, check_statuses(status), None, clock=self._terms.clock)
        found.update(stored.head.user_id for _, stored in walk)
        return {each: found[each] for each in sorted(found, key=lambda user: (user is None, user or ""))}

    def count(
        self, user_id: str | Anyone | Nobody, *, where: Mapping[str, Any] | None, status: SessionStatus | None
    ) -> int:
        """Return how many sessions there are; see `SessionManager.count`."""
        chosen = _Chosen.of(user_id, where, status)
        if chosen.is_filtered:
            return sum(summary is not None for _, summary in self._walk(chosen))
        now = microseconds(self._terms.clock())
        return sum(self._backend.expiry.count(each, chosen.owner, now) for each in chosen.statuses)

    def _walk(
        self,
        chosen: _Chosen,
        *,
        newest_first: bool = True,
        limit: int | None = None,
        after: Position | None = None,
        skip_invalid: bool = True,
    ) -> Iterator[tuple[Position, SessionSummary | None]]:
        """Iterate over an index: each position with its summary, or None if that is not *chosen*."""
        known = set[str]()
        # A session that does not fit need not be remembered, unless the end of a whole list reads it again.
        edge = indexes.edge(self._terms.clock) if chosen.is_filtered and limit is None else None
        found = indexes.walk(
            self._backend,
            chosen.owner,
            chosen.statuses,
            after,
            limit=None if limit is None or chosen.is_filtered else limit + 1,
            newest_first=newest_first,
            on_invalid=_ignore if skip_invalid else None,
            clock=self._terms.clock,
            known=known,
            whole=limit is None,
        )
        for position, stored in found:
            try:
                summary = summarize(stored)
            except InvalidDocumentError:
                if not skip_invalid:
                    raise
                continue
            fit = fits(summary.metadata, chosen.where) and not (chosen.of_nobody and summary.user_id is not None)
            if not fit and (edge is None or position <= edge):
                known.discard(summary.session_id)
            yield position, summary if fit else None


def _ignore(err: InvalidDocumentError) -> None:
    """Skip a damaged session, but raise for one that cannot be decrypted: with a wrong key the list would be empty."""
    if isinstance(err, EncryptionError):
        raise err
