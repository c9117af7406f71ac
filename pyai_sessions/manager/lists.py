"""What a manager lists and counts: a user's sessions, those of all users, the users."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pyai_sessions.manager.face import Face
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.model.listed import SummaryPage
from pyai_sessions.model.session import Session
from pyai_sessions.sessions.filters import Order
from pyai_sessions.sessions.trips import mending
from pyai_sessions.values.checks import ANYONE, Anyone, Nobody


class ListsSessions(Face):
    """The part of `SessionManager` that lists sessions."""

    @mending
    def get_sessions_for_user(
        self,
        user_id: str,
        *,
        limit: int | None = None,
        before: datetime | None = None,
        include_archived: bool = False,
        skip_invalid: bool = False,
    ) -> list[Session]:
        """Return a user's sessions with their messages, latest activity first.

        *limit* returns the newest so many; *before* those last active before that time. Costs one index read, one trip
        for heads per 100 sessions and one for their pages per 20, and to decode all that they hold; `list_sessions`
        reads no messages. A session that another process deletes meanwhile is left out.

        Raises:
            InvalidDocumentError: One of them cannot be read; *skip_invalid* leaves such sessions out.

        """
        found = self._store.list_for_user(
            user_id, limit=limit, before=before, include_archived=include_archived, skip_invalid=skip_invalid
        )
        return list(map(self._opened, found))

    @mending
    def list_sessions(
        self,
        user_id: str | Anyone | Nobody = ANYONE,
        *,
        where: Mapping[str, Any] | None = None,
        status: SessionStatus | None = SessionStatus.ACTIVE,
        order: Order = "newest",
        limit: int | None = None,
        cursor: str | None = None,
        skip_invalid: bool = False,
    ) -> SummaryPage:
        """Return summaries of a user's sessions, or of all users', latest activity first.

        Leave *user_id* out to list the sessions of all users; `NOBODY` lists those of no user, and None raises. *where*
        keeps those whose metadata has these values: ``{"channel": "web"}``. *status* None lists active and archived
        ones.

        Activity is messages: a new title, metadata or state moves no session. *order* ``"oldest"`` begins with those
        that were idle longest. ``"created"`` sorts by creation, ``"title"`` by title, from A to Z, those without one
        last; ``"-created"`` and ``"-title"`` the other way round. Sorting reads the heads of all the sessions that are
        asked for, at each page; it holds their ids, and the summaries of one page.

        All are listed, unless *limit* says how many: the list is then a page, and its ``next_cursor``, given as
        *cursor*, leads to the next one, whatever was written meanwhile; it is None at the end. No message is read.
        Costs one index read and one trip for heads per 100 sessions; with *where* those that are passed over count,
        too, and with `NOBODY` the sessions of users.

        Beside writers no session comes twice in one call, and a whole list has each that was there all the time. From
        page to page a session that becomes active meanwhile moves to the newest end: with ``order="newest"`` a later
        page lacks it (the first page, asked for again, has it), with ``"oldest"`` it may come once more.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> for n, channel in enumerate(["web", "mail", "web"]):
        ...     _ = manager.create_session("ada", session_id=f"s{n}", metadata={"channel": channel})
        >>> page = manager.list_sessions("ada", where={"channel": "web"}, limit=1)
        >>> [each.session_id for each in page]
        ['s2']
        >>> page = manager.list_sessions("ada", where={"channel": "web"}, cursor=page.next_cursor)
        >>> [each.session_id for each in page]
        ['s0']

        """
        return self._engine.lister.summaries(
            user_id,
            where=self._plain(where, "where"),
            status=status,
            order=order,
            limit=limit,
            cursor=cursor,
            skip_invalid=skip_invalid,
        )

    @mending
    def count(
        self,
        user_id: str | Anyone | Nobody = ANYONE,
        *,
        where: Mapping[str, Any] | None = None,
        status: SessionStatus | None = SessionStatus.ACTIVE,
    ) -> int:
        """Return how many sessions a user has, or all users, if *user_id* is left out.

        *status* None counts archived ones too.

        One index read. With *where*, which counts those whose metadata has these values, it reads all their heads, and
        for `NOBODY` those of all sessions.
        """
        return self._engine.lister.count(user_id, where=self._plain(where, "where"), status=status)

    @mending
    def users(self, *, status: SessionStatus | None = SessionStatus.ACTIVE) -> dict[str | None, int]:
        """Return how many sessions each user has, by user id; last, under None, how many have no user.

        *status* None counts archived ones too. Reads the heads of all sessions, 100 in a trip, and holds the counts. A
        session that becomes active meanwhile may be left out.

        Raises:
            InvalidDocumentError: A head cannot be read.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> for user_id in ("bob", "ada", None, "bob"):
        ...     _ = manager.create_session(user_id)
        >>> manager.users()
        {'ada': 1, 'bob': 2, None: 1}

        """
        return self._engine.lister.users(status=status)
