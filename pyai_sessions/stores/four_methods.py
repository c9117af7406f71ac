"""A store of four methods, seen as a storage: what a `KVSessionStore` keeps sessions in, in a `SessionStore`.

Of a session the storage has its head, which holds all messages, and a document for each branch. They are made of what
``get`` returns; what is written is made a session again, and saved. Lists are those that the store gives, or an index.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from pyai_sessions.concurrency.calls import PATIENCE, outcome
from pyai_sessions.concurrency.turns import Claim, Turn, current_frame
from pyai_sessions.documents.envelopes import start_of
from pyai_sessions.documents.keys import branch_key, decode_id, encode_id, head_key, is_state, session_of_key
from pyai_sessions.documents.limits import KEPT
from pyai_sessions.documents.listed import STATUSES, USERS, lists_of
from pyai_sessions.documents.reading import read_branch, read_head, restore, stamp_of_value
from pyai_sessions.documents.writing import compose
from pyai_sessions.errors import InvalidDocumentError, SessionConflictError, UnsupportedOperationError
from pyai_sessions.model.heads import Entry, SessionStatus, from_microseconds, microseconds
from pyai_sessions.model.history import History, Line
from pyai_sessions.model.session import Session, history_of, session_of, values_of
from pyai_sessions.sessions.loading import MISSING
from pyai_sessions.storage.names import place_of
from pyai_sessions.storage.protocol import Change, Held, Listed, Position, Storage
from pyai_sessions.storage.walks import Walk
from pyai_sessions.stores.index import Index
from pyai_sessions.stores.kv import KVSessionStore
from pyai_sessions.values.checks import AnyPath, utc_now
from pyai_sessions.values.recent import Recent

_RECENT = 32 * 1024 * 1024
"""Bytes of documents that are remembered."""

_TERMS = KEPT._replace(paged=False)

_PAGE = 100
"""Sessions that are asked of a list at a time."""

_NAME_AN_INDEX = "SessionManager(store, index=SQLiteMapping('index.db'))"


class CustomSessionStore(KVSessionStore):
    """Sessions in a store of the user's own. *index* lists them by activity, where the store itself cannot."""

    def __init__(self, store: Any, index: Any = None) -> None:
        storage = FourMethods(store, index)
        super().__init__(storage)
        self.store = store
        self.shared = storage.turns.shared
        self._close_mapping = storage.close  # a manager calls `close` only where it is to close the store

    def namespace(self, namespace: str) -> KVSessionStore:
        """Raise UnsupportedOperationError: the store keeps sessions by their ids alone."""
        name = type(self.store).__name__
        raise UnsupportedOperationError(f"a {name} has no namespaces; make a store for each, such as {namespace!r}")

    def check_closes(self) -> None:
        """Raise unless the store can be closed."""
        if not callable(getattr(self.store, "close", None)):
            name = type(self.store).__name__
            raise UnsupportedOperationError(f"close_store=True needs `close`, which {name} lacks")

    def require(self, method: str) -> None:
        """Raise UnsupportedOperationError where a manager's *method* needs more than the store has."""
        name = type(self.store).__name__
        if method == "reindex" and not hasattr(self.store, "list_by_activity"):
            raise UnsupportedOperationError(f"reindex needs `list_by_activity`, which {name} lacks")
        if method.endswith("_state"):
            raise _keeps_no_state(name)


def _keeps_no_state(name: str) -> UnsupportedOperationError:
    what = f"{name} keeps sessions alone, not the state of a user or of the application"
    return UnsupportedOperationError(f'{what}; keep that in a store beside it: SessionManager("sqlite:///state.db")')


class _Seen(NamedTuple):
    """A session's documents as they were read or written, and by what they are known when the store gives them back.

    That is the store's revision, and how the head begins that is then made: not as the one that was written, where a
    store keeps times to the second.
    """

    revision: str | None = None
    stamp: str | None = None
    documents: Mapping[str, object] = {}


class FourMethods(Storage):
    """Sessions in a store of four methods, each sync or async.

    A write compares what is stored, then saves; writers of one session take turns in this process. Of a store that
    counts revisions ``save`` itself compares. Of others, a writer in another process may come between.

    Args:
        store: The `SessionStore`, or what has its methods.
        index: A mapping in which the sessions of all users are listed, where the store does not.

    """

    paged = False
    threads = 16

    def __init__(self, store: Any, index: Any = None) -> None:
        self._store = store
        self._name = type(store).__name__
        self._list: Callable[..., Any] | None = getattr(store, "list_by_activity", None)
        self._index = None if index is None else Index(index)
        self._is_built = False
        self.turns = _turns_of(store)
        self._counts = False
        self._is_exact = False
        self._seen: Recent[_Seen] = Recent(_RECENT)

    # Documents ---------------------------------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> dict[str, object]:  # noqa: D102 (the protocol documents it)
        found: dict[str, object] = {}
        for session_id in dict.fromkeys(filter(None, map(_session_of, keys))):
            documents = self._get(session_id).documents
            found |= {key: documents[key] for key in documents if any(_is_in(key, each) for each in keys)}
        return found

    def _get(self, session_id: str) -> _Seen:
        try:
            session: Session | None = outcome(self._store.get(session_id))
        except InvalidDocumentError as err:
            return _Seen(documents={head_key(session_id): err})
        if session is None:
            return _Seen()
        documents = _documents_of(session, session_id)
        found = _Seen(session.revision, stamp_of_value(documents[head_key(session_id)]), documents)
        seen = self._seen.get(session_id)
        if self._counts and (seen is None or seen.revision != found.revision):
            self._remember(session_id, found)
        return found

    def _remember(self, session_id: str, found: _Seen) -> None:
        size = sum(len(each) for each in found.documents.values() if isinstance(each, bytes))
        self._seen.put(session_id, found, size)

    def write(self, changes: Sequence[Change]) -> list[bool]:  # noqa: D102
        return [self._apply(each) for each in changes]

    def _apply(self, change: Change) -> bool:
        keys = [*(key for key, _ in change.expect), *(key for key, _ in change.put), *change.drop]
        session_id = next(filter(None, map(_session_of, keys)), None)
        if any(is_state(key) for key, _ in change.put):
            raise _keeps_no_state(self._name)
        if session_id is None or not all(_session_of(key) for key, _ in change.put):
            return False  # the store keeps sessions alone
        with _InTurn(self.turns, session_id):
            seen = self._expected(session_id, change)
            if seen is None:
                return False
            documents = {**seen.documents, **dict(change.put)}
            documents = {key: documents[key] for key in documents if not any(_is_in(key, each) for each in change.drop)}
            head = documents.get(head_key(session_id))
            if change.put and head is not None:
                return self._save(session_id, seen, documents)
            if seen.documents and head is None:
                self._seen.pop(session_id)
                outcome(self._store.delete(session_id))
            if self._index and not isinstance(head, InvalidDocumentError):
                self._index.put(session_id, None if head is None else read_head(head, session_id).entry)
            return True

    def _expected(self, session_id: str, change: Change) -> _Seen | None:
        """Return what is stored, if it is what a change expects."""
        seen = self._seen.get(session_id) or _Seen()
        fits = _fits(change, seen.documents)
        if fits and change.put and self._counts:
            return seen  # if it is stale, `save` says so
        now = self._get(session_id)
        if _fits(change, now.documents):
            return now
        return seen if fits and (now.revision, now.stamp) == (seen.revision, seen.stamp) else None

    def _save(self, session_id: str, seen: _Seen, documents: Mapping[str, object]) -> bool:
        session = _session_in(documents, session_id)
        session.revision = seen.revision
        self._seen.pop(session_id)
        if self._index:  # first: an entry without its session is passed over
            self._index.put(session_id, _entry(session))
        try:
            outcome(self._store.save(session))
        except SessionConflictError:
            now = self._get(session_id)
            if now.revision == seen.revision and bool(now.documents) == bool(seen.documents):
                raise  # though nobody else has saved it
            return False
        self._counts = self._counts or session.revision not in (None, seen.revision)
        self._learn(session, documents)
        return True

    def _learn(self, session: Session, documents: Mapping[str, object]) -> None:
        """Remember what was saved, and by what it is known when the store gives it back.

        Whether that is as it was given is found out at the first save; else the session is read after each.
        """
        stamp = stamp_of_value(documents[head_key(session.session_id)])
        if not (self._counts or self._is_exact):
            given: Session | None = outcome(self._store.get(session.session_id))
            if given is None or _ids(given) != _ids(session):
                return  # another writer was faster
            saved, stamp = stamp, stamp_of_value(_documents_of(given, session.session_id)[head_key(session.session_id)])
            self._is_exact = stamp == saved
        if not self._is_exact:
            self._remember(session.session_id, _Seen(session.revision, stamp, documents))

    def keys(self, prefix: str = "") -> Iterator[str]:  # noqa: D102
        if prefix and not prefix.startswith("session/"):
            return iter(())
        found: Iterable[Session | Entry] = self._all() if self._list else self._indexed().entries()
        return (key for key in (head_key(each.session_id) for each in found) if key.startswith(prefix))

    # Lists -------------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102 (what a store gave at once is not cut)
        self, name: str, after: Position | None = None, limit: int = _PAGE, *, newest_first: bool = False
    ) -> list[Position]:
        status, user_id = _list_named(name)
        if status is None:
            return []
        if user_id is None and self._index:
            return self._indexed().scan(status, after, limit, newest_first=newest_first)
        found = self._all(after, newest_first=newest_first) if user_id is None else self._of_user(user_id)
        positions = (_held(each) for each in found if each.status is status)
        if newest_first:
            held = sorted((each for each in positions if after is None or each < after), reverse=True)
            return list(held[: limit if limit < _PAGE else None])
        left = (each for each in positions if after is None or each > after)
        return list(islice(left, limit)) if user_id is None else sorted(left)

    def _of_user(self, user_id: str) -> Iterable[Session]:
        found: Iterable[Session] = outcome(self._store.list_for_user(user_id)) or ()
        return (each for each in found if each.user_id == user_id)

    def _all(self, after: Position | None = None, *, newest_first: bool = False) -> Iterator[Session]:
        """Iterate over the sessions of all users, idle longest first, from a position on or up to it."""
        if self._list is None:
            raise self._lacks()
        remedy = "let list_by_activity(after, limit) return what comes after the pair `after`, in order"
        walk = Walk(f"{self._name}.list_by_activity", remedy)
        start = None if after is None or newest_first else (from_microseconds(after[0]), decode_id(after[1]))
        while True:
            page: list[Session] = list(outcome(self._list(start, _PAGE)))
            yield from page
            if len(page) < _PAGE or (newest_first and after is not None and _position(page[-1]) >= after):
                return
            walk.reach(_position(page[-1]))
            start = page[-1].active_at, page[-1].session_id

    def count(self, name: str) -> int:  # noqa: D102
        return len(self.scan(name, None, sys.maxsize))

    def listings(  # noqa: D102
        self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = ""
    ) -> Iterator[Listed]:
        if of is None:
            return (each for entry in self._entries() for each in lists_of(entry) if each[0].startswith(prefix))
        ids = {session_id for _, member in of for session_id in [decode_id(member)] if session_id is not None}
        return (each for entry in self._entries(ids) for each in lists_of(entry) if each[:2] in of)

    def _entries(self, session_ids: Iterable[str] | None = None) -> Iterator[Entry]:
        """Iterate over how sessions are listed; None: all of them."""
        if self._index:
            return self._indexed().entries(session_ids)
        if session_ids is None:
            return map(_entry, self._all())
        heads = self.read([head_key(each) for each in session_ids])
        return (read_head(value, session_of_key(key) or "").entry for key, value in heads.items())

    def _indexed(self) -> Index:
        """Return the index; an empty one is built first, where the store can be listed."""
        if self._index is None:
            raise self._lacks()
        if self._list and not self._is_built:
            if not self._index.count():
                for each in self._all():
                    self._index.put(each.session_id, _entry(each))
            self._is_built = True
        return self._index

    def _lacks(self) -> UnsupportedOperationError:
        what = f"a list of the sessions of all users needs `list_by_activity`, which {self._name} lacks"
        return UnsupportedOperationError(f"{what}, or an index: {_NAME_AN_INDEX}")

    def backup(self, path: AnyPath, *, overwrite: bool = False) -> None:  # noqa: ARG002
        """Raise UnsupportedOperationError: only the store knows where its sessions lie."""
        instead = f"back up the database of {self._name} by its own tools"
        raise UnsupportedOperationError(f"backup copies SQLite files and diskcache directories; {instead}")

    def close(self) -> None:  # noqa: D102
        if self._index:
            self._index.close()
        if callable(getattr(self._store, "close", None)):
            outcome(self._store.close())


# A session, and its documents -----------------------------------------------------------------------------------------


def _documents_of(session: Session, session_id: str) -> dict[str, object]:
    """Return the documents of a session that a store gave, by their keys."""
    given = history_of(session)
    if given.unloaded:
        raise InvalidDocumentError(head_key(session_id), session_id, None, "the store gave it only in part")
    branches = [each for each in given.branches if each.left and not each.left.unloaded]
    history = History(log=given.log, branches=branches, active_at=session.active_at)
    made = compose(session_of(values_of(session), history), _TERMS)
    return {head_key(session_id): made.head, **made.pages}


def _session_in(documents: Mapping[str, object], session_id: str) -> Session:
    """Return the session that has these documents, for a store to save."""
    session = restore(read_head(documents[head_key(session_id)], session_id), [], utc_now)
    branches: list[Line] = []
    for each in history_of(session).branches:
        key = branch_key(session_id, each.branch_id)
        if key not in documents:
            raise InvalidDocumentError(key, session_id, None, MISSING)
        left, values = read_branch(documents[key], key, session_id)
        branches.append(each._replace(left=History(log=left.log), values=values))
    history = History(log=history_of(session).log, branches=branches, active_at=session.active_at, made_for=session_id)
    return session_of(values_of(session), history)


def _entry(session: Session) -> Entry:
    return Entry(session.session_id, session.user_id, session.status, microseconds(session.active_at))


def _ids(session: Session) -> list[str]:
    return [each.message_id for each in session.messages]


def _position(session: Session) -> Position:
    return microseconds(session.active_at), encode_id(session.session_id)


def _held(session: Session) -> Held:
    return Held(_position(session), lambda: _documents_of(session, session.session_id)[head_key(session.session_id)])


def _session_of(key: str) -> str | None:
    """Return the id of the session whose head, or branch, lies under a key, or below it."""
    return decode_id(place_of(key)) if key.startswith(("session/", "messages/")) else None


def _list_named(name: str) -> tuple[SessionStatus | None, str | None]:
    """Return the status, and the user, whose list has this name; None for a list of all users, or of no status."""
    user, _, status = name.rpartition("/")
    user_id = decode_id(user.removeprefix(USERS)) if user.startswith(USERS) else None
    return (STATUSES.get(status) if user_id or not user else None), user_id


def _is_in(key: str, wanted: str) -> bool:
    return key == wanted or (wanted.endswith("/") and key.startswith(wanted))


def _fits(change: Change, documents: Mapping[str, object]) -> bool:
    """Return whether documents are those that a change expects."""
    return all(_begins(documents.get(key), start) for key, start in change.expect)


def _begins(document: object | None, start: str | None) -> bool:
    if document is None or start is None:
        return document is start
    return start_of(document).startswith(start)


# Turns ----------------------------------------------------------------------------------------------------------------


class _Turns(dict[str, Turn]):
    """Whose turn it is to write a session of a store; all that use the store share them."""

    def __init__(self, store: object) -> None:
        super().__init__()
        self.shared: dict[object, Any] = {}
        self.store = store  # held, so that its id() stays taken


_turns: WeakValueDictionary[int, _Turns] = WeakValueDictionary()


_making = Turn()


def _turns_of(store: object) -> _Turns:
    claim = Claim(current_frame())
    _making.take(claim, PATIENCE, "a store that another thread opens")
    try:  # setdefault of a weak dictionary is more than one step
        return _turns.setdefault(id(store), _Turns(store))
    finally:
        _making.give_back(claim)


class _InTurn:
    """Keeps other writers of a session out meanwhile."""

    def __init__(self, turns: _Turns, session_id: str) -> None:
        self._turns = turns
        self._key = session_id

    def __enter__(self) -> None:
        frame = current_frame(1)
        while True:
            self._turn, self._claim = self._turns.setdefault(self._key, Turn()), Claim(frame)
            self._turn.take(self._claim, PATIENCE, f"session {self._key!r}")
            if self._turns.get(self._key) is self._turn:
                return
            self._turn.give_back(self._claim)  # who had it was the last who wanted it, and took it out

    def __exit__(self, kind: object, err: object, trace: object) -> None:
        if self._turns.get(self._key) is self._turn:
            self._turns.pop(self._key, None)
        self._turn.give_back(self._claim)
