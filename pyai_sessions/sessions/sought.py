"""Finding messages by id in a session's pages, so that a message whose id the caller chose is stored once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from pyai_sessions.documents.keys import page_keys
from pyai_sessions.documents.reading import read_messages
from pyai_sessions.model.heads import Run, StoredHead, united
from pyai_sessions.sessions.loading import absent
from pyai_sessions.sessions.trips import Asking, Read
from pyai_sessions.values.messages import Message
from pyai_sessions.values.recent import Recent

_TOGETHER = 1000
"""Pages whose ids are read in one round trip."""

_ID = 100
"""Bytes of memory for one id."""


class _Id(msgspec.Struct, gc=False):
    message_id: str


_IDS = msgspec.json.Decoder(list[_Id])


@dataclass(slots=True)
class _Pages:
    """The ids in pages that were read. Pages never change, so they need not be read again.

    Attributes:
        read: The pages that were read.
        hashes: The hashes of the ids in these pages, each with the key of the page that was read last and has it. A
            message whose hash is missing is in none of them.

    """

    read: tuple[Run, ...] = ()
    hashes: dict[int, str] = field(default_factory=dict[int, str])

    def unread(self, run: Run) -> list[Run]:
        """Return the pages of a run that were not read."""
        found, start = list[Run](), run.start
        for known in self.read:
            if (known.owner, known.generation) == (run.owner, run.generation):
                found.append(_part(run, start, min(known.start, run.end)))
                start = max(start, min(known.end, run.end))
        return [each for each in (*found, _part(run, start, run.end)) if each.pages > 0]


def find_stored(
    recent: Recent[object], stored: StoredHead, message_ids: Iterable[str], stop: int | None = None
) -> Asking[list[Message]]:
    """Return the messages with these ids in the pages that a head names, or in the first *stop* of them."""
    return [each for each, _ in (yield from _seek(recent, stored, message_ids, stop))]


def find_pages(recent: Recent[object], stored: StoredHead, message_ids: Iterable[str]) -> Asking[list[int]]:
    """Return the numbers of the pages that contain messages with these ids."""
    return [page for _, page in (yield from _seek(recent, stored, message_ids, None))]


def _seek(
    recent: Recent[object], stored: StoredHead, message_ids: Iterable[str], stop: int | None
) -> Asking[list[tuple[Message, int]]]:
    """Return the messages with these ids in the first *stop* pages that a head names, each with its page's number.

    The ids in these pages are read once and remembered in *recent*. So the first call for a session costs a round trip
    per 1,000 pages; later calls read only new pages, usually none, and those that have the messages.

    Raises:
        RewrittenError: The session was rewritten, or deleted, since the head was read.
        InvalidDocumentError: A page cannot be read, or is missing.

    """
    session_id = stored.head.session_id
    sought = {hash(each): each for each in message_ids}
    known = recent.get(("ids", session_id))
    pages = known if isinstance(known, _Pages) else _Pages()
    left, new = stored.pages if stop is None else stop, list[Run]()
    for run in stored.head.sealed:
        count = min(run.pages, left)
        left -= count
        new += pages.unread(_part(run, run.start, run.start + count))
    unread = page_keys(new)
    for start in range(0, len(unread), _TOGETHER):
        keys = unread[start : start + _TOGETHER]
        found = yield Read(keys)
        for key in keys:
            pages.hashes.update(dict.fromkeys(map(hash, (yield from _ids(stored, key, found.get(key)))), key))
    if unread:
        pages.read = united([*pages.read, *new])
        recent.put(("ids", session_id), pages, _ID * (len(pages.hashes) + len(pages.read)))
    wanted = {each: pages.hashes[key] for key, each in sought.items() if key in pages.hashes}
    if not wanted:
        return []
    numbers = {key: n for n, key in enumerate(page_keys(stored.head.sealed, 0, stop))}
    likely = sorted({numbers[key] for key in wanted.values() if key in numbers})
    messages: dict[str, tuple[Message, int]] = {}
    yield from _look(stored, likely, wanted.keys(), messages)
    if len(messages) < len(wanted):  # after a switch, for example, an older page has it
        yield from _look_back(stored, wanted.keys(), stop, messages)
    return list(messages.values())


def _part(run: Run, start: int, end: int) -> Run:
    return msgspec.structs.replace(run, start=start, pages=end - start)


def _ids(stored: StoredHead, key: str, value: object) -> Asking[list[str]]:
    try:
        if isinstance(value, (str, bytes)):
            return [each.message_id for each in _IDS.decode(value)]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    return [each.message_id for each in (yield from _messages(stored, key, value))]


def _messages(stored: StoredHead, key: str, value: object) -> Asking[list[Message]]:
    if value is None:
        yield from absent(stored, key)
    return read_messages(value, key, stored.head.session_id)


def _look(
    stored: StoredHead, numbers: Sequence[int], wanted: Collection[str], found: dict[str, tuple[Message, int]]
) -> Asking[None]:
    """Read pages, and put the wanted messages that they have into *found*, each with its page's number."""
    keys = [key for n in numbers for key in page_keys(stored.head.sealed, n, n + 1)]
    read: Mapping[str, object] = (yield Read(keys)) if keys else {}
    for number, key in zip(numbers, keys, strict=True):
        messages = yield from _messages(stored, key, read.get(key))
        found.update((each.message_id, (each, number)) for each in messages if each.message_id in wanted)


def _look_back(
    stored: StoredHead, wanted: Collection[str], stop: int | None, found: dict[str, tuple[Message, int]]
) -> Asking[None]:
    """Read pages from the newest back, twice as many each time, until all wanted messages are found."""
    end, together = stored.pages if stop is None else stop, 1
    while end and len(found) < len(wanted):
        start = max(0, end - together)
        yield from _look(stored, range(start, end), wanted, found)
        end, together = start, min(2 * together, _TOGETHER)
