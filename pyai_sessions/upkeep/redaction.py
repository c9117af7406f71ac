"""Redaction: removing the words of one message from every document of a session and of its forks.

Each document is rewritten in place and keeps its number of messages, so the storage is consistent at any moment, and an
interrupted redaction can be repeated. Pages that are shared with another user's fork are copied first: the other user's
session keeps its content.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import UNSET

from pyai_sessions.documents.blanking import Blanker
from pyai_sessions.documents.envelopes import start_of, stored_text, text_of
from pyai_sessions.documents.keys import head_key, parts_of_reference, session_beside
from pyai_sessions.documents.reading import read_head, readable_head
from pyai_sessions.documents.writing import amend
from pyai_sessions.errors import InvalidDocumentError, InvalidValueError, SessionStateError, StorageLockedError
from pyai_sessions.model.heads import StoredHead, named_runs, owners_of, page_numbers
from pyai_sessions.sessions import forks, indexes
from pyai_sessions.sessions.attempts import until_done
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.loading import head_of
from pyai_sessions.sessions.pages import keys_beside, pages_there
from pyai_sessions.storage.names import place_of
from pyai_sessions.storage.protocol import Change
from pyai_sessions.values.checks import Clock, kind_of, shown
from pyai_sessions.values.json import decoded, is_array, plain, read, write

REMOVED = "[removed]"

_ROUNDS = 20
"""How often the documents are read again because other writers changed them."""

_FIELDS = ("title", "question", "metadata", "state", "checkpoints", "summary", "messages")
"""The fields of a head that may contain words of a message."""


@dataclass(frozen=True)
class Redaction:
    """What `redact` did, and where words of the message may still be stored.

    Attributes:
        session_ids: The user's sessions that contain the message, sorted: this one, and those it was forked from or
            into.
        documents: How many stored documents were rewritten; 0 if an earlier call has done it.
        copies: How many copies of the message these contained: in the history, in branches, in pages that no session
            names.
        shared: Sessions of *other* users that contain the message, sorted. They were not changed. Without ``scan=True``
            some may be missing.
        mentions: Ids of other messages of these sessions that contain a text of the message: the first 1,000, sorted.
            They were not changed; give ``text=`` to remove words from them. Where these stand in base64, as frameworks
            pack objects, they are left as well: remove such messages, or what the framework stored with them.
        unread: Keys of documents that cannot be read, and may contain the message. Look at them by hand.

    """

    session_ids: list[str]
    documents: int = 0
    copies: int = 0
    shared: list[str] = field(default_factory=list[str])
    mentions: list[str] = field(default_factory=list[str])
    unread: list[str] = field(default_factory=list[str])


class Order(NamedTuple):
    """Which message of which session is to be redacted, and its new content."""

    session_id: str
    message_id: str
    content: Any
    words: tuple[str, ...]
    user_id: str | None
    scan: bool


def order(session_id: str, message_id: str, content: object, text: object, user_id: str | None, *, scan: bool) -> Order:
    """Return the arguments of `redact`, checked."""
    words = (text,) if isinstance(text, str) else () if text is None else text
    if not isinstance(words, Iterable) or isinstance(words, (bytes, Mapping)):
        raise InvalidValueError("text", f"is {kind_of(text)}; it is a text to remove, or a list of texts")
    found = tuple(cast("Iterable[object]", words))
    for n, each in enumerate(found):
        if not isinstance(each, str) or not each:
            problem = f"is {kind_of(each)}" if each else "is empty"
            raise InvalidValueError(f"text[{n}]", f"{problem}; it is a text to remove")
    made = plain(content, "content")
    return Order(session_id, message_id, made, cast("tuple[str, ...]", found), user_id, scan)


class Redactor:
    """Carries out one redaction."""

    def __init__(self, backend: Backend, clock: Clock, wanted: Order) -> None:
        self._backend = backend
        self._clock = clock
        self._wanted = wanted
        self._blanker = Blanker(wanted.message_id, wanted.content, wanted.words)
        self._documents = self._copies = 0
        self._marked: set[str] = set()
        self._others: set[str] = set()  # a session that got its own copies of pages is no longer found by their keys

    def run(self) -> Redaction:
        """Read and rewrite the documents until nothing is left to rewrite; return what was done."""
        wanted = self._wanted
        for _ in range(_ROUNDS):
            first = head_of(self._backend, wanted.session_id, self._clock, wanted.user_id)
            family = _Family(self._backend, first, self._others, scan=wanted.scan)
            self._others |= family.others
            self._learn(family)
            found = self._look(family)
            if not self._redact(found):
                shared = sorted(each for each in family.others if self._is_held(family, each))
                unread = sorted({*found.unread, *family.unread})
                mentions = sorted(self._blanker.mentions)
                return Redaction(sorted(found.held), self._documents, self._copies, shared, mentions, unread)
        problem = f"other writers changed it each of the {_ROUNDS} times that it was read"
        raise StorageLockedError(f"session {wanted.session_id!r}", problem)

    def _learn(self, family: _Family) -> None:
        """Learn the words of the message from the session itself, and from the forks that contain it."""
        blanker, first = self._blanker, self._wanted.session_id
        pages = [(key, document) for key, value in self._beside(family) if (document := _json(value)) is not None]
        heads = {each: _json(self._backend.head(each)) for each in family.mine}
        own = {key for key, _ in pages if family.is_of(key, first)}
        for document in (heads[first], *(document for key, document in pages if key in own)):
            blanker.learn(document)
        if not blanker.times:
            raise _no_message(self._wanted)
        times = set(blanker.times)
        for document in (*heads.values(), *(document for _, document in pages)):
            blanker.learn(document, times)

    def _look(self, family: _Family) -> _Found:
        """Read all documents of the user's sessions, and return what is to be changed."""
        blanker, found = self._blanker, _Found()
        blanker.mentions.clear()
        for key, value in self._beside(family):
            text = self._blanked(key, value, found)
            users, owner = family.users(key), session_beside(key) or ""
            found.held.update(users & family.mine if blanker.met else ())
            strangers = users & (family.mine if owner in family.others else family.others)
            if text is None:
                continue
            if strangers:
                found.parting.update((each, owner) for each in strangers)
            elif owner not in family.others:
                (found.copies if blanker.copies else found.derived).append((key, value, text))
                found.count += blanker.copies
        for session_id in family.mine:
            blanker.met = blanker.copies = 0
            if self._fields(family.heads[session_id]) and not blanker.copies:
                found.heads.append(session_id)
            if blanker.met or session_id == self._wanted.session_id:
                found.held.add(session_id)
            found.count += blanker.copies
        return found

    def _redact(self, found: _Found) -> bool:
        """Change what was found; return whether there was anything to change.

        Documents that only mention the words are changed first, copies of the message last: a redaction that is
        repeated after an interruption learns the words from a copy.
        """
        for session_id, owner in sorted(found.parting):
            forks.leave_parent(self._backend, session_id, owner)
        if found.parting:
            return True  # the next round finds the copies
        for session_id in found.heads:
            self._rewrite_head(session_id)
        for changes in (found.derived, found.copies):
            for batch in indexes.batches(changes):
                self._documents += self._rewrite(batch)
        # The heads come last: a new edition tells a copy that was loaded before that the history was rewritten.
        due = found.held if found.derived or found.copies else found.held - self._marked
        for session_id in sorted(due):
            self._rewrite_head(session_id, rewritten=True)
        self._copies += found.count
        self._marked |= due
        return bool(found.heads or found.derived or found.copies or due)

    def _rewrite(self, documents: Sequence[tuple[str, object, bytes]]) -> int:
        """Write documents, those of one place in one step; return how many were written.

        If another writer changed one of them meanwhile, none of its place is written, and the next round finds them.
        """
        places: dict[str, list[tuple[str, object, bytes]]] = {}
        for each in documents:
            places.setdefault(place_of(each[0]), []).append(each)
        changes = [
            Change(
                expect=[(key, start_of(value)) for key, value, _ in those],
                done=start_of(those[0][2]),
                put=[(key, text) for key, _, text in those],
            )
            for those in places.values()
        ]
        written = zip(changes, self._backend.storage.write(changes), strict=True)
        return sum(len(each.put) for each, done in written if done)

    def _rewrite_head(self, session_id: str, **changes: Any) -> None:
        def attempt() -> bool | None:
            """Return whether words were removed."""
            value = self._backend.head(session_id)
            stored = None if value is None else read_head(value, session_id)
            fields = {} if stored is None else self._fields(stored)
            if stored is None or not (fields or changes):
                return False
            unknown = self._blanker.document(dict(stored.unknown))
            draft = amend(msgspec.structs.replace(stored, unknown=unknown), self._backend.kept, **fields, **changes)
            return bool(fields) or unknown != dict(stored.unknown) if self._backend.commit(draft) else None

        self._documents += until_done(self._backend, session_id, attempt)

    # Documents ---------------------------------------------------------------------------------------------------

    def _beside(self, family: _Family) -> Iterator[tuple[str, object]]:
        """Iterate over the documents beside the heads of the user's sessions, and shared pages of other sessions."""
        for batch in indexes.batches(family.keys(self._backend)):
            yield from self._backend.storage.read(batch).items()

    def _blanked(self, key: str, value: object, found: _Found) -> bytes | None:
        """Return the new text of a document; None if it does not change."""
        blanker, document = self._blanker, _json(value)
        blanker.met = blanker.copies = 0
        if document is not None:
            made = blanker.document(document)
            return None if made == document else write(made)
        text = stored_text(value)
        if isinstance(value, InvalidDocumentError) or text is None:
            found.unread.add(key)
            return None
        damaged = text.decode("utf-8", "surrogateescape")
        if re.search(r'"message_id":\s*' + re.escape(write(self._wanted.message_id).decode()), damaged):
            found.unread.add(key)  # some of its words may be spelled in a way that is not found
        made = blanker.raw(damaged, spelled=True)
        return None if made == damaged else made.encode("utf-8", "surrogateescape")

    def _fields(self, stored: StoredHead) -> dict[str, Any]:
        """Return the fields of a head that change, with their new values."""
        changes: dict[str, Any] = {}
        for name in _FIELDS:
            value = getattr(stored.head, name)
            if value is not UNSET:
                is_raw = isinstance(value, msgspec.Raw)
                old = read(bytes(value) if is_raw else write(value))
                made = self._blanker.field(name, old)
                if made != old:
                    changes[name] = msgspec.Raw(write(made)) if is_raw else tuple(made) if is_array(made) else made
        return changes

    def _is_held(self, family: _Family, session_id: str) -> bool:
        """Return whether a session of another user contains the message with its words."""
        probe = self._blanker.probe()
        stored = family.heads[session_id]
        probe.field("messages", read(bytes(stored.head.messages)))
        for keys in indexes.batches(pages_there(self._backend.storage, named_runs(stored.head))):
            for value in self._backend.storage.read(keys).values():
                probe.document(_json(value))
        return bool(probe.copies)


class _Found:
    """What is to be changed, as one reading of all documents finds it."""

    def __init__(self) -> None:
        self.parting: set[tuple[str, str]] = set()
        """Sessions that must stop sharing pages, each with the owner of the pages."""
        self.derived: list[tuple[str, object, bytes]] = []
        """Documents that contain its words, but no copy of the message."""
        self.copies: list[tuple[str, object, bytes]] = []
        """Documents that contain copies of the message."""
        self.heads: list[str] = []
        """Sessions whose heads contain its words, but no copy."""
        self.held: set[str] = set()
        """The user's sessions that contain the message, redacted or not."""
        self.unread: set[str] = set()
        self.count = 0


class _Family:
    """A session with its parents and forks, at any distance: those of the user, and those of others.

    They are found by the references beside shared pages, and by the parents that heads name: the heads of the user's
    sessions, or, with *scan*, of all sessions.
    """

    def __init__(self, backend: Backend, first: StoredHead, others: Iterable[str], *, scan: bool) -> None:
        self.heads: dict[str, StoredHead] = {}
        self.unread: set[str] = set()
        self._unusable: set[str] = set()
        links = _links(backend, first.head.user_id, scan=scan)
        due = {first.head.session_id, *others}
        while due:
            found = list(due)
            heads = backend.heads(found)
            for session_id in found:
                self._add(session_id, heads.get(session_id))
            due = {each for session_id in found for each in self._related(session_id, links)}
            beside = keys_beside(backend.storage, found)
            due.update(parts_of_reference(key)[1] for key in beside if key.startswith("forks/"))
            due -= self.heads.keys() | self._unusable
        user_id = first.head.user_id
        self.mine = {each for each, stored in self.heads.items() if stored.head.user_id == user_id}
        self.others = self.heads.keys() - self.mine
        self._named = {each: page_numbers(named_runs(stored.head)) for each, stored in self.heads.items()}

    def _add(self, session_id: str, value: object | None) -> None:
        stored = readable_head(value, session_id)
        if stored is not None:
            self.heads[session_id] = stored
            return
        self._unusable.add(session_id)
        if value is not None:
            self.unread.add(head_key(session_id))

    def _related(self, session_id: str, links: Mapping[str, set[str]]) -> Iterator[str]:
        yield from links.get(session_id, ())
        if session_id in self.heads:
            yield from _linked(self.heads[session_id])

    def keys(self, backend: Backend) -> Iterator[str]:
        """Iterate over the keys of the documents of the user's sessions, shared pages too, but not of the heads."""
        seen = set[str]()
        for key in keys_beside(backend.storage, sorted(self.mine)):
            if not key.startswith("forks/"):
                seen.add(key)
                yield key
        for session_id in sorted(self.mine):
            for key in pages_there(backend.storage, named_runs(self.heads[session_id].head)):
                if key not in seen:
                    seen.add(key)
                    yield key

    def users(self, key: str) -> set[str]:
        """Return the sessions that name a page."""
        kind, _, rest = key.partition("/")
        owner = session_beside(key)
        if kind != "messages" or owner is None:
            return set()
        generation, number = rest.split("/")[1:]
        return {
            each
            for each, named in self._named.items()
            if any(int(number) in pages for pages in named.get((owner, generation), ()))
        }

    def is_of(self, key: str, session_id: str) -> bool:
        """Return whether a document belongs to a session, or is a page that the session names."""
        return session_beside(key) == session_id or session_id in self.users(key)


def _links(backend: Backend, user_id: str | None, *, scan: bool) -> dict[str, set[str]]:
    """Map sessions to those that name them as a parent or share their pages, among the user's sessions or all."""
    links: dict[str, set[str]] = {}

    def add(stored: StoredHead) -> None:
        for each in _linked(stored):
            links.setdefault(each, set()).add(stored.head.session_id)

    if scan:
        for ids in indexes.batches(indexes.session_ids(backend.storage)):
            for session_id, value in backend.heads(ids).items():
                stored = readable_head(value, session_id)
                if stored is not None:
                    add(stored)
    elif user_id is not None:
        for _, stored in indexes.walk(backend, user_id, indexes.ALL, None, on_invalid=lambda _: None):
            add(stored)
    return links


def _linked(stored: StoredHead) -> set[str]:
    """Return the sessions that a head names: its parent, and the owners of shared pages."""
    return {*owners_of(named_runs(stored.head), stored.head.session_id), *filter(None, [stored.parent_id])}


def _json(value: object) -> Any:
    """Return the JSON of a stored document; None if it cannot be read."""
    text = None if isinstance(value, InvalidDocumentError) else text_of(value)
    try:
        return None if text is None else read(decoded(text))
    except ValueError:
        return None


def _no_message(wanted: Order) -> SessionStateError:
    return SessionStateError(wanted.session_id, f"has no message {shown(wanted.message_id)}; nor has a branch of it")
