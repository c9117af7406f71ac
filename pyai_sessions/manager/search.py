"""What a manager finds by its words: the messages of sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, get_args

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.manager.face import Face
from pyai_sessions.model.fields import check_statuses
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.search.cursors import SearchOrder, read_cursor
from pyai_sessions.search.hits import HitPage
from pyai_sessions.search.index import index_beside, index_in_file, make_view
from pyai_sessions.search.queries import Mode, make_query
from pyai_sessions.search.searching import Wanted, search
from pyai_sessions.sessions.backend import Progress
from pyai_sessions.sessions.filters import check_owner, check_where
from pyai_sessions.sessions.trips import mending
from pyai_sessions.values.checks import (
    ANYONE,
    Anyone,
    AnyPath,
    Nobody,
    check_choice,
    check_count,
    check_id,
    check_items,
    check_limit,
    check_progress,
    check_text,
    check_time,
    kind_of,
    shown,
    sought_id,
)

_LONGEST_CONTEXT = 100
_MOST = 2**31
"""Hits on a page, of however many more a page is asked."""


class SearchesMessages(Face):
    """The part of `SessionManager` that searches."""

    @mending
    def search(
        self,
        query: str,
        user_id: str | Anyone | Nobody = ANYONE,
        *,
        mode: Mode = "words",
        session_id: str | None = None,
        where: Mapping[str, Any] | None = None,
        status: SessionStatus | None = SessionStatus.ACTIVE,
        role: str | Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        tools: bool = False,
        order: SearchOrder = "newest",
        one_per_session: bool = False,
        context: int = 0,
        limit: int | None = 20,
        cursor: str | None = None,
        skip_invalid: bool = False,
        progress: Progress | None = None,
    ) -> HitPage:
        """Return a page of the messages that say something, with the part of each that says it.

        ``night train`` finds messages with both words, ``"night train"`` the phrase, ``trai*`` words that begin so,
        ``night OR day`` either, ``-bus`` none with that word. Case and accents do not matter. In Chinese, Japanese,
        Thai and other scripts without spaces, a word is found wherever it stands. ``mode="substring"`` looks for a text
        with its spaces and signs, ``mode="regex"`` for a regular expression, which needs the package regex.

        Args:
            query: What to look for.
            user_id: Whose sessions; `NOBODY` for those of no user. Leave it out for all; None raises.
            mode: How the query is meant.
            session_id: The one session to look in.
            where: Values that the metadata of the session must have.
            status: The status of the sessions; None for archived ones, too.
            role: The role, or roles, of the messages.
            since: Messages made at this time or later.
            until: Messages made before this time.
            tools: Whether to look into calls of tools and their results, too.
            order: ``"newest"``: the session with the newest message first, in it the latest hit first. ``"best"``: the
                highest score first, of the 1,000 newest hits, then of the next 1,000; with ``limit=None`` of all.
            one_per_session: Whether to return the best hit of each session alone.
            context: How many messages before and after each hit to return with it, up to 100.
            limit: Hits of the page; None for all.
            cursor: The ``next_cursor`` of the page before.
            skip_invalid: Whether to leave out sessions that cannot be read; else they raise.
            progress: Is called with the number of sessions looked through so far, after 20 or fewer. What it raises
                ends the search.

        Notes:
            A hit is a message as it was stored when it was read: none is of a session that was deleted, has expired or
            is another user's, or of a message that was replaced. Branches are not searched.

            Without an index, sessions are read in the order of their activity, in bounded memory, until the page is
            full: 1,000,000 messages take some seconds. See `build_search_index`.

        Raises:
            InvalidValueError: The query has no word, or another fault; the error says which.
            MissingPackageError: ``mode="regex"``, and the package regex is not installed.
            InvalidDocumentError: A session cannot be read.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> session = manager.create_session("ada", title="Holidays")
        >>> _ = session.add_message("user", "Is there a night train to Vienna?")
        >>> manager.save(session)
        >>> hit = manager.search('"night train" wien OR vienna', "ada")[0]
        >>> hit.title, hit.role, hit.position, hit.marked()
        ('Holidays', 'user', 0, 'Is there a [night train] to [Vienna]?')

        """
        owner, of_nobody = check_owner(user_id)
        check_choice(order, "order", *get_args(SearchOrder))
        check_limit(limit, "limit")
        check_progress(progress)
        for name, value in (("tools", tools), ("one_per_session", one_per_session), ("skip_invalid", skip_invalid)):
            if not isinstance(value, bool):
                raise InvalidValueError(name, f"is {kind_of(value)}; it is True or False")
        if check_count(context, "context") > _LONGEST_CONTEXT:
            problem = f"is {shown(context)}; at most {_LONGEST_CONTEXT} messages before and after a hit"
            raise InvalidValueError("context", problem)
        roles = [role] if isinstance(role, str) or role is None else check_items(role, "role", "roles")
        wanted = Wanted(
            make_query(query, mode),
            None if session_id is None else sought_id(session_id) or "",
            owner,
            of_nobody,
            check_where(self._plain(where, "where")),
            check_statuses(status),
            None if role is None else frozenset(check_text(each, "role") for each in roles),
            None if since is None else check_time(since, "since"),
            None if until is None else check_time(until, "until"),
            tools,
            order,
            one_per_session,
            context,
            limit if limit is None else min(limit, _MOST),
            read_cursor(cursor, order),
            skip_invalid,
        )
        return search(self._engine.backend, self._engine.terms, wanted, self._search_index(), progress)

    @mending
    def build_search_index(
        self, path: AnyPath | None = None, *, rebuild: bool = False, progress: Progress | None = None
    ) -> int:
        """Make an index for `search`, or bring it up to date; return how many documents were indexed.

        Of sessions in an SQLite file or a diskcache directory the index lies in the same file, for all its namespaces,
        and every store that opens the file uses it. From then on each writer notes what it changes, in the transaction
        that changes it, and later searches index some of that. Call this from time to time to index all of it.

        Of other storages the index lies in a file of its own at *path*, or in memory, and is used by the managers of
        this store. Call this at each start. Each search over all users then compares the revisions of all sessions. An
        encrypted store has its index in memory alone, since a file would show the words.

        The index is derived from the sessions and never believed: a search finds the same with it and without.

        Args:
            path: The file of the index, for a storage that has none of its own.
            rebuild: Whether to make it anew.
            progress: Is called with the number of documents so far.

        Raises:
            InvalidValueError: *path* is given, and the index lies in the file of the sessions.
            UnsupportedOperationError: This SQLite was built without FTS5, or the store is encrypted and *path* is
                given.
            StorageReadOnlyError: The file was opened for reading alone.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager("sqlite:///:memory:")
        >>> _ = manager.create_session("ada")
        >>> manager.build_search_index(), manager.build_search_index()
        (1, 0)

        """
        check_progress(progress)
        backend = self._engine.backend
        index = index_in_file(backend)
        if index is not None and path is not None:
            raise InvalidValueError("path", "is given, but the index lies in the file of the sessions; leave path out")
        if index is None:
            index = self._indexes.get(backend.under)
            if index is None or path is not None:
                index = self._indexes[backend.under] = index_beside(backend, path)
        return index.rebuild(progress) if rebuild else index.build(progress)

    @mending
    def drop_search_index(self) -> None:
        """Remove the index of `search`, which then reads all messages. Writers note no more what they change.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager("sqlite:///:memory:")
        >>> _ = manager.build_search_index()
        >>> manager.drop_search_index()

        """
        index = self._search_index()
        if index is not None:
            index.drop()
        self._indexes.pop(self._engine.backend.under, None)

    @mending
    def build_messages_view(self, name: str = "messages") -> None:
        """Make a view in the SQLite file, which shows the messages of all sessions as rows, to Datasette for example.

        Its columns are session_id, user_id, position, role, text, timestamp, message_id, status and expires_at. *text*
        is the text of the content, or of its parts, a line each. It shows what is stored at any moment, of this
        namespace, archived and expired sessions too; messages on branches, and documents that cannot be read, are not
        in it. It reads the documents, so a query of all messages takes a second for some 30,000.

        Remove it with ``DROP VIEW``. A former view of this namespace's messages under this name is replaced.

        Raises:
            InvalidValueError: The file has something else of this name: a table, or the view of another store.
            UnsupportedOperationError: The sessions lie in no SQLite file, or are encrypted.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager("sqlite:///:memory:")
        >>> manager.build_messages_view()

        """
        make_view(self._engine.backend, check_id(name, "name"))
