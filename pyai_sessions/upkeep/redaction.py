"""Redaction: the words of one message taken out of all that a storage holds of a session and of its forks.

Documents are rewritten where they lie, with as many messages as before, so each is right at any moment, and a redaction
that was cut short is repeated. What other users' forks share is first copied for whoever is on the other side, so that
their sessions stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import UNSET

from pyai_sessions.documents.blanking import Blanker
from pyai_sessions.documents.envelopes import start_of, text_of
from pyai_sessions.documents.keys import head_key, parts_of_reference, session_beside
from pyai_sessions.documents.reading import read_head
from pyai_sessions.documents.writing import amend
from pyai_sessions.errors import InvalidDocumentError, InvalidValueError, SessionStateError, StorageLockedError
from pyai_sessions.model.heads import StoredHead, extents, named_runs, owners_of
from pyai_sessions.sessions import forks, indexes
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.loading import Attempts, head_of
from pyai_sessions.sessions.pages import keys_beside, pages_there
from pyai_sessions.storage.names import place_of
from pyai_sessions.storage.protocol import Change
from pyai_sessions.upkeep.holdings import raw
from pyai_sessions.values.checks import Clock, check_id, kind_of, shown
from pyai_sessions.values.json import decoded, is_array, plain, read, write

REMOVED = "[removed]"

_ROUNDS = 20
"""How often all is looked through again, because others wrote meanwhile."""

_FIELDS = ("title", "question", "metadata", "state", "checkpoints", "summary", "messages")
"""The fields of a head that hold words."""


@dataclass(frozen=True)
class Redaction:
    """What `redact` did, and where the message's words may still be.

    Attributes:
        session_ids: The sessions of the user that hold the message: this one, and those it was forked from or into.
            Sorted.
        documents: How many stored documents were rewritten; 0 where all was done before.
        copies: How many copies of the message were in these: in the history, branches, pages that no session names.
        shared: Sessions of *other* users that hold the message, sorted, as far as they are known: see `scan`. They
            stayed as they are.
        mentions: Ids of other messages of these sessions in which a text of the message stands. They stayed as they
            are; give ``text=`` to take words out of them. The first 1,000, sorted.
        unread: Keys of documents that cannot be read, so that nothing says what they hold. Look at them by hand.

    """

    session_ids: list[str]
    documents: int = 0
    copies: int = 0
    shared: list[str] = field(default_factory=list[str])
    mentions: list[str] = field(default_factory=list[str])
    unread: list[str] = field(default_factory=list[str])


class Order(NamedTuple):
    """What is to be redacted: a message of a session, and what takes its place."""

    session_id: str
    message_id: str
    content: Any
    words: tuple[str, ...]
    user_id: str | None
    scan: bool


def order(
    session_id: object, message_id: object, content: object, text: object, user_id: str | None, *, scan: bool
) -> Order:
    """Return what the arguments of `redact` mean."""
    words = (text,) if isinstance(text, str) else () if text is None else text
    if not isinstance(words, Iterable) or isinstance(words, (bytes, Mapping)):
        raise InvalidValueError("text", f"is {kind_of(text)}; it is text, or texts, that are to go")
    found = tuple(cast("Iterable[object]", words))
    for n, each in enumerate(found):
        if not isinstance(each, str) or not each:
            problem = f"is {kind_of(each)}" if each else "is empty"
            raise InvalidValueError(f"text[{n}]", f"{problem}; it is text that is to go")
    made = plain(content, "content")
    return Order(
        check_id(session_id, "session_id"),
        check_id(message_id, "message_id"),
        made,
        cast("tuple[str, ...]", found),
        user_id,
        scan,
    )


class Redactor:
    """A redaction at work."""

    def __init__(self, backend: Backend, clock: Clock, wanted: Order) -> None:
        self._backend = backend
        self._clock = clock
        self._wanted = wanted
        self._blanker = Blanker(wanted.message_id, wanted.content, wanted.words)
        self._documents = self._copies = 0
        self._marked: set[str] = set()
        self._others: set[str] = set()  # those that were given their own pages are found by nothing else afterwards

    def run(self) -> Redaction:
        """Redact until a look at everything finds nothing left to do; say what was done."""
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
        problem = f"other writers changed it in each of {_ROUNDS} rounds"
        raise StorageLockedError(f"session {wanted.session_id!r}", problem)

    def _learn(self, family: _Family) -> None:
        """Learn what the message says: of the session itself, and of the forks that have the same message."""
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
        """Look through all documents of the user's sessions, and find what is to be changed."""
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
        """Change what was found; return whether there was anything.

        What the message was taken over into goes first, the message itself last: whoever repeats a redaction that was
        cut short finds from a copy what it says.
        """
        for session_id, owner in sorted(found.parting):
            forks.leave_parent(self._backend, session_id, owner)
        if found.parting:
            return True  # the next round finds them apart
        for session_id in found.heads:
            self._rewrite_head(session_id)
        for changes in (found.derived, found.copies):
            for batch in indexes.batches(changes):
                self._documents += self._rewrite(batch)
        # The heads last: a new edition tells who loaded a session before that its history was rewritten.
        due = found.held if found.derived or found.copies else found.held - self._marked
        for session_id in sorted(due):
            self._rewrite_head(session_id, rewritten=True)
        self._copies += found.count
        self._marked |= due
        return bool(found.heads or found.derived or found.copies or due)

    def _rewrite(self, documents: Sequence[tuple[str, object, bytes]]) -> int:
        """Put other text under keys, those of a place together; return how many documents that were.

        Where one was changed since it was read, the next round finds those of its place again.
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
        attempts = Attempts(self._backend, session_id)
        for _ in attempts:
            with attempts.exclusive():
                value = self._backend.head(session_id)
                stored = None if value is None else read_head(value, session_id)
                fields = {} if stored is None else self._fields(stored)
                if stored is None or not (fields or changes):
                    return
                unknown = self._blanker.document(dict(stored.unknown))
                fewer = unknown != dict(stored.unknown)
                done = self._backend.commit(
                    amend(msgspec.structs.replace(stored, unknown=unknown), self._backend.kept, **fields, **changes)
                )
            if done:
                self._documents += bool(fields or fewer)
                return

    # Documents ---------------------------------------------------------------------------------------------------

    def _beside(self, family: _Family) -> Iterator[tuple[str, object]]:
        """Iterate over what lies beside the heads of the user's sessions, and pages of others that these name."""
        for batch in indexes.batches(family.keys(self._backend)):
            yield from self._backend.storage.read(batch).items()

    def _blanked(self, key: str, value: object, found: _Found) -> bytes | None:
        """Return what a document is to become; None if it stays as it is."""
        blanker, document = self._blanker, _json(value)
        blanker.met = blanker.copies = 0
        if document is not None:
            made = blanker.document(document)
            return None if made == document else write(made)
        text = text_of(raw(value))
        if isinstance(value, InvalidDocumentError) or text is None:
            found.unread.add(key)
            return None
        damaged = text.decode("utf-8", "surrogateescape")
        if re.search(r'"message_id":\s*' + re.escape(write(self._wanted.message_id).decode()), damaged):
            found.unread.add(key)  # of what it says there some may be left
        made = blanker.raw(damaged, spelled=True)
        return None if made == damaged else made.encode("utf-8", "surrogateescape")

    def _fields(self, stored: StoredHead) -> dict[str, Any]:
        """Return the fields of a head that change."""
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
        """Return whether a session of another user holds the message, with its words."""
        probe = self._blanker.probe()
        stored = family.heads[session_id]
        probe.field("messages", read(bytes(stored.head.messages)))
        for keys in indexes.batches(pages_there(self._backend.storage, named_runs(stored.head))):
            for value in self._backend.storage.read(keys).values():
                probe.document(_json(value))
        return bool(probe.copies)


class _Found:
    """What a look through all documents finds to be done."""

    def __init__(self) -> None:
        self.parting: set[tuple[str, str]] = set()
        """Sessions, each with the owner of pages that it can no longer share."""
        self.derived: list[tuple[str, object, bytes]] = []
        """Documents that hold no copy of the message, but its words."""
        self.copies: list[tuple[str, object, bytes]] = []
        """Documents that hold copies."""
        self.heads: list[str] = []
        """Sessions whose heads hold no copy, but words."""
        self.held: set[str] = set()
        """The user's sessions that hold the message, blank or not."""
        self.unread: set[str] = set()
        self.count = 0


class _Family:
    """A session, and all that it was forked from or into: the user's own, and those of others.

    Found by what forks leave with the owners of pages, by what heads say of their parents, of the user's sessions or,
    to *scan*, of all.
    """

    def __init__(self, backend: Backend, first: StoredHead, others: Iterable[str], *, scan: bool) -> None:
        self.heads: dict[str, StoredHead] = {}
        self.unread: set[str] = set()
        self._gone: set[str] = set()
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
            due -= self.heads.keys() | self._gone
        user_id = first.head.user_id
        self.mine = {each for each, stored in self.heads.items() if stored.head.user_id == user_id}
        self.others = self.heads.keys() - self.mine
        self._named = {each: extents(named_runs(stored.head)) for each, stored in self.heads.items()}

    def _add(self, session_id: str, value: object | None) -> None:
        try:
            stored = None if value is None else read_head(value, session_id)
        except InvalidDocumentError:
            self.unread.add(head_key(session_id))
            stored = None
        if stored is None:
            self._gone.add(session_id)
        else:
            self.heads[session_id] = stored

    def _related(self, session_id: str, links: Mapping[str, set[str]]) -> Iterator[str]:
        yield from links.get(session_id, ())
        if session_id in self.heads:
            yield from _linked(self.heads[session_id])

    def keys(self, backend: Backend) -> Iterator[str]:
        """Iterate over the keys of what lies beside the user's heads, and of pages of others that these name."""
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
        return {each for each, named in self._named.items() if int(number) < named.get(owner, {}).get(generation, 0)}

    def is_of(self, key: str, session_id: str) -> bool:
        """Return whether a document is a session's own, or a page that it names."""
        return session_beside(key) == session_id or session_id in self.users(key)


def _links(backend: Backend, user_id: str | None, *, scan: bool) -> dict[str, set[str]]:
    """Return, of the user's sessions or of all, which were forked from which, by the sessions that these name."""
    links: dict[str, set[str]] = {}

    def add(stored: StoredHead) -> None:
        for each in _linked(stored):
            links.setdefault(each, set()).add(stored.head.session_id)

    if scan:
        for ids in indexes.batches(indexes.session_ids(backend.storage)):
            for session_id, value in backend.heads(ids).items():
                with suppress(InvalidDocumentError):
                    add(read_head(value, session_id))
    elif user_id is not None:
        for _, stored in indexes.walk(backend, user_id, indexes.ALL, None, on_invalid=lambda _: None):
            add(stored)
    return links


def _linked(stored: StoredHead) -> set[str]:
    """Return the sessions that a head names: its parent, and the owners of pages."""
    parent = stored.head.parent
    found = set(owners_of(named_runs(stored.head), stored.head.session_id))
    if parent and isinstance(parent.get("session_id"), str):
        found.add(parent["session_id"])
    return found


def _json(value: object) -> Any:
    """Return what a stored document says; None where it cannot be read as JSON."""
    text = None if isinstance(value, InvalidDocumentError) else text_of(value)
    try:
        return None if text is None else read(decoded(text))
    except ValueError:
        return None


def _no_message(wanted: Order) -> SessionStateError:
    return SessionStateError(wanted.session_id, f"has no message {shown(wanted.message_id)}; nor has a branch of it")
