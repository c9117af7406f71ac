"""The search index: which documents may hold what a query looks for. It is derived from the documents, like the lists.

An index is never believed: a search reads the documents that it names, and looks at each message in them. Documents
that changed since they were indexed count as named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pyai_sessions.documents.envelopes import text_of
from pyai_sessions.documents.keys import head_key, page_keys, page_prefix, session_of_key
from pyai_sessions.documents.reading import read_head, read_messages, readable_head, stamp_of_value
from pyai_sessions.errors import InvalidDocumentError, StorageReadOnlyError, UnsupportedOperationError
from pyai_sessions.model.heads import StoredHead, owners_of
from pyai_sessions.search.queries import Query
from pyai_sessions.search.texts import texts_of
from pyai_sessions.search.words import words
from pyai_sessions.sessions.backend import Backend, Progress
from pyai_sessions.sessions.indexes import batches, session_ids
from pyai_sessions.storage.names import split_namespace
from pyai_sessions.storage.protocol import Storage
from pyai_sessions.values.checks import AnyPath
from pyai_sessions.values.json import is_mapping, read
from pyai_sessions.values.messages import Message

if TYPE_CHECKING:  # loads sqlite3
    from pyai_sessions.storage.sqlite.fulltext import FullText, Indexed

_TOGETHER = 20
"""Documents that are indexed in one transaction: other writers wait for it."""

_LOOKS = 10
"""How often a session is read again while other writers change it."""

_SOME_DUE = 50
"""Documents that may be due before a search indexes some."""

_AT_A_SEARCH = 200
"""Documents that one search indexes at the most."""

_MOST_DUE = 5_000
"""Documents that may be due for the index to be of use."""

Row = tuple[int, str, int]
"""The number, the stamp and the count of messages of an indexed document."""


class Candidates(NamedTuple):
    """The documents that may hold what is looked for, as the index said at one moment.

    Args:
        sessions: The sessions that may have such documents.
        keys: The keys of the documents.
        stamps: What these sessions' heads were, by their keys.
        last: The greatest number of a document that was indexed.
        known: Returns what the index knows of documents now.

    """

    sessions: set[str]
    keys: set[str]
    stamps: Mapping[str, str]
    last: int
    known: Callable[[Sequence[str]], dict[str, Row]]

    def has_tail(self, stored: StoredHead) -> bool:
        """Return whether a message in a head may match."""
        key = head_key(stored.head.session_id)
        return key in self.keys or self.stamps.get(key) != _stamp_of(stored)

    def pages(self, stored: StoredHead, keys: Sequence[str]) -> set[str]:
        """Return those of the pages of a head in which a message may match."""
        found = self.keys.intersection(keys)
        if self.stamps.get(head_key(stored.head.session_id)) == _stamp_of(stored):
            return found
        known = self.known(keys)  # another head was stored since: its pages may be newer
        return found | {key for key in keys if key not in known or known[key][0] > self.last}

    def counts(self, keys: Sequence[str]) -> dict[str, int]:
        """Return how many messages pages have, as far as the index knows."""
        return {key: count for key, (_, _, count) in self.known(keys).items() if count >= 0}


class SearchIndex:
    """An index of the messages in a storage.

    Args:
        storage: The storage.
        index: The index. If it lies in the file of the storage, changes are noted there; else the heads tell.
        under: The prefix of the namespace that is searched.
        noted: Whether changes are noted.

    """

    def __init__(self, storage: Storage, index: FullText, *, under: str = "", noted: bool) -> None:
        self._storage = storage
        self._index = index
        self._under = under
        self.noted = noted

    def is_made(self) -> bool:
        """Return whether there is an index."""
        return self._index.is_made()

    def build(self, progress: Progress | None = None) -> int:
        """Make the index if there is none, and index what changed; return how many documents were indexed."""
        if not self._index.is_made():
            self._index.make()
        return self.catch_up(progress=progress)

    def rebuild(self, progress: Progress | None = None) -> int:
        """Make the index anew."""
        self._index.make()
        return self.catch_up(progress=progress)

    def drop(self) -> None:
        """Remove the index. Searches then read all documents."""
        self._index.drop()

    def close(self) -> None:
        """Close a file that is the index's own. An index in memory is gone then."""
        if not self.noted:
            self._index.connections.close()

    def erase(self) -> None:
        """Leave no word in the index that is in no document, after an erasure or a redaction."""
        if self._index.is_made():
            self.catch_up()
            if not self.noted:
                self._index_unnamed_pages()
            self._index.optimize()

    def _index_unnamed_pages(self) -> None:
        """Index anew all pages that their own sessions do not name, or take them out of the index.

        A session may have been deleted while it was indexed, or have dropped pages later than it was.
        """
        for keys in self._index.keys("messages/"):
            ids = {session_of_key(key) or "" for key in keys}
            heads = self._storage.read([head_key(each) for each in ids])
            named = {page for each in ids for page in self._named(each, heads.get(head_key(each)))}
            found = self._read([key for key in keys if key not in named])
            self._index.put([_indexed(*each) for each in found.items()])

    # What changed ------------------------------------------------------------------------------------------------

    def catch_up(self, most: int | None = None, progress: Progress | None = None) -> int:
        """Index what changed, at most so many documents; return how many these were."""
        done = 0
        for found in self._noted(most) if self.noted else self._changed():
            made = [_indexed(key, value) for key, value in found.items()]
            self._index.put(made, partial(self._unchanged, found) if self.noted else None)
            done += len(found)
            if progress:
                progress(done)
        return done

    def _noted(self, most: int | None) -> Iterator[dict[str, object]]:
        """Iterate over the documents that are noted as changed, in batches; None for one that is gone."""
        done, after = 0, ""
        while keys := self._index.due(after, _TOGETHER if most is None else min(_TOGETHER, most - done)):
            after = keys[-1]
            done += len(keys)
            yield self._read(keys)

    def _read(self, keys: Sequence[str]) -> dict[str, object]:
        found = self._storage.read(keys)
        return {key: found.get(key) for key in keys}

    def _unchanged(self, found: Mapping[str, object]) -> list[str]:
        """Return the keys of the documents that are still what was found; called in the transaction that says so."""
        now = self._storage.read([*found])
        return [key for key, value in found.items() if now.get(key) == value]

    def _changed(self) -> Iterator[dict[str, object]]:
        """Iterate over the documents that changed, as the heads tell, in batches; None for one that is gone."""
        batch = dict[str, object]()
        for found in self._changed_sessions():
            batch |= found
            if len(batch) >= _TOGETHER:
                yield batch
                batch = {}
        if batch:
            yield batch

    def _changed_sessions(self) -> Iterator[Mapping[str, object]]:
        """Iterate over what changed of each session: its pages, then its head.

        The head was read before its pages. So if other pages are written meanwhile, another head is stored, and the
        session counts as changed. If a page that the head names is gone by then, the head is read again.
        """
        there = set[str]()
        for ids in batches(session_ids(self._storage)):
            keys = [head_key(each) for each in ids]
            heads, known = self._storage.read(keys), self._index.known(keys)
            there.update(heads)
            for session_id, key in zip(ids, keys, strict=True):
                value, before = heads.get(key), known[key][1] if key in known else ""
                for _ in range(_LOOKS):
                    if value is None or before.partition("\n")[0] == stamp_of_value(value):
                        break
                    is_missing = False
                    for pages in batches(self._changed_pages(session_id, value, before), _TOGETHER):
                        found = self._read(pages)
                        is_missing = is_missing or None in found.values()
                        yield found
                    now = self._storage.read([key]).get(key) if is_missing else value
                    if stamp_of_value(now) == stamp_of_value(value):
                        yield from self._left_over(session_id, value)
                        yield {key: value}
                        break
                    value = now
        for keys in self._index.keys("session/"):
            for key in keys:
                if key not in there:
                    yield from self._left_over(session_of_key(key) or "", None)
                    yield {key: None}

    def _changed_pages(self, session_id: str, value: object, before: str) -> list[str]:
        """Return the pages that a head names and the index does not know, or knows as those of another edition."""
        stored = readable_head(value, session_id)
        if stored is None:
            return []
        named = page_keys(stored.head.sealed)
        known = self._index.known(named)
        rewritten = before and before != _stamp_of(stored) and before.partition("\n")[2] != stored.head.edition
        return [key for key in named if rewritten or key not in known]

    def _left_over(self, session_id: str, value: object) -> Iterator[dict[str, object]]:
        """Iterate over the indexed pages of a session that its head does not name. Those that forks share are there."""
        indexed = {key for keys in self._index.keys(page_prefix(session_id)) for key in keys}
        for keys in batches(indexed.difference(self._named(session_id, value)), _TOGETHER):
            yield self._read(keys)

    def _named(self, session_id: str, value: object) -> list[str]:
        stored = readable_head(value, session_id)
        return [] if stored is None else page_keys(stored.head.sealed)

    # Queries -----------------------------------------------------------------------------------------------------

    def candidates(self, query: Query) -> Candidates | None:
        """Return which documents may match a query; None where the index does not help."""
        expression = query.expression()
        if expression is None or not self._index.is_made():
            return None
        if not self.noted or len(self._index.due(limit=_SOME_DUE)) == _SOME_DUE:
            with suppress(StorageReadOnlyError):
                self.catch_up(_AT_A_SEARCH if self.noted else None)
        found = self._index.matches(expression, _MOST_DUE)
        if found is None:
            return None
        under = self._under
        keys = {key[len(under) :] for key in (*found.keys, *found.due) if split_namespace(key)[0] == under}
        sessions = {each for each in map(session_of_key, keys) if each is not None}
        for key in self._index.linked([under + head_key(each) for each in sessions]):
            sessions.add(session_of_key(key[len(under) :]) or "")
        heads = self._known([head_key(each) for each in sessions])
        stamps = {key: stamp for key, (number, stamp, _) in heads.items() if number <= found.last}
        return Candidates(sessions, keys, stamps, found.last, self._known)

    def _known(self, keys: Sequence[str]) -> dict[str, Row]:
        under = len(self._under)
        return {key[under:]: row for key, row in self._index.known([self._under + key for key in keys]).items()}


def index_in_file(backend: Backend) -> SearchIndex | None:
    """Return the index that is, or could be made, in the file where a backend's documents lie; None for none.

    Encrypted documents have none: an index on disk would show their words.
    """
    beside = getattr(backend.plain, "beside", None)
    if beside is None or backend.plain is None:
        return None
    from pyai_sessions.storage.sqlite.fulltext import FullText

    connections, table = beside()
    return SearchIndex(backend.plain, FullText(connections, table.search, table.name), under=backend.under, noted=True)


def make_view(backend: Backend, name: str) -> None:
    """Make a view of a backend's messages in the SQLite file where they lie; see `SessionManager.build_messages_view`.

    Raises:
        UnsupportedOperationError: They lie in no SQLite file, or are encrypted.

    """
    beside = getattr(backend.plain, "beside", None)
    if beside is None:
        what = "the sessions are encrypted" if backend.plain is None else "the sessions lie in no SQLite file"
        raise UnsupportedOperationError(f"a view shows what lies in an SQLite file as it is, and {what}; use search")
    from pyai_sessions.storage.sqlite import view

    connections, table = beside()
    view.make_view(connections, name, table.name, backend.under)


def index_beside(backend: Backend, path: AnyPath | None = None) -> SearchIndex:
    """Return an index of a backend's sessions in a file of its own, or in memory (None).

    Raises:
        UnsupportedOperationError: The documents are encrypted, and a file would show their words.

    """
    from pyai_sessions.storage.sqlite.connections import Connections
    from pyai_sessions.storage.sqlite.files import full_path, make_private
    from pyai_sessions.storage.sqlite.fulltext import FullText

    name = ":memory:"
    if path is not None:
        if backend.plain is None:
            msg = "the sessions are encrypted, and an index in a file would show their words; leave path out"
            raise UnsupportedOperationError(msg)
        name = full_path(path, "path", "'search.db'")
        make_private(name)
    connections = Connections(name, timeout=backend.timeout, synchronous="OFF", wal=path is not None)
    return SearchIndex(backend.storage, FullText(connections, "search"), noted=False)


def _indexed(key: str, value: object) -> Indexed:
    """Return what the index holds of a document of any namespace."""
    from pyai_sessions.storage.sqlite.fulltext import UNREADABLE, Indexed

    under, own = split_namespace(key)
    session_id = session_of_key(own)
    if value is None or session_id is None or own.startswith("forks/"):
        return Indexed(key)
    try:
        if own == head_key(session_id):
            stored = read_head(value, session_id)
            messages = read_messages(bytes(stored.head.messages), own, session_id)
            owners = owners_of(stored.head.sealed, session_id)
            links = [under + head_key(each) for each in owners]
            return Indexed(key, _stamp_of(stored), len(messages), _words_of(messages), links)
        messages = read_messages(value, own, session_id)
    except InvalidDocumentError:
        return Indexed(key) if _is_branch(value) else Indexed(key, items=UNREADABLE)
    return Indexed(key, items=len(messages), words=_words_of(messages))


def _stamp_of(stored: StoredHead) -> str:
    """Return by what the index tells a head from any other: its stamp, and the edition of its messages."""
    return f"{stored.stamp}\n{stored.head.edition}"


def _words_of(messages: Sequence[Message]) -> str:
    return " ".join([each for message in messages for text in texts_of(message, tools=True) for each in words(text)])


def _is_branch(value: object) -> bool:
    """Return whether a document under the key of a page is that of a branch, which is no page."""
    text = text_of(value)
    try:
        return text is not None and is_mapping(read(text))
    except ValueError:
        return False
