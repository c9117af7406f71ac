"""Making a fork: a new session that begins with the first messages of another and shares its pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyai_sessions.documents.keys import head_key, page_keys
from pyai_sessions.documents.reading import UNFIT, read_messages, restore
from pyai_sessions.errors import InvalidDocumentError, InvalidValueError, SessionStateError
from pyai_sessions.model.heads import Run, SessionStatus, StoredHead, first_pages
from pyai_sessions.model.history import History
from pyai_sessions.model.points import Checkpoint, Parent
from pyai_sessions.model.session import Session, history_of, session_of, values_of
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.loading import MISSING
from pyai_sessions.values.checks import Clock, check_time, counted, kind_of, shown
from pyai_sessions.values.json import plain_object
from pyai_sessions.values.messages import Message

At = str | int | Checkpoint | Message | None
"""The point at which a session is forked: a number of messages, a checkpoint or its name, a message or its id (the fork
contains it), or None for the end."""


def forked(
    backend: Backend, stored: StoredHead, at: At, *, session_id: str, user_id: str | None, clock: Clock
) -> Session:
    """Return a fork of a stored session. It is not stored yet; messages in pages that it shares are not loaded.

    A fork at the end, or within the newest messages, reads no page. Any other fork reads the pages between the point
    and the end; if the point is a number of messages and nearer to the start of its run of pages, those from the start.
    The first round trip reads one page, each further one twice as many.

    Raises:
        InvalidValueError: The session has no such point.
        SessionStateError: The history before the checkpoint was changed.
        InvalidDocumentError: A document of the session cannot be read.

    """
    session, pages = restore(stored, [], clock), _Pages(backend, stored)
    history = history_of(session)
    count, checkpoint = _count(session, pages, at)
    if count <= history.unloaded:
        shared, log, last = pages.until(count)
    else:
        shared = tuple(run for run in pages.runs if run.pages)
        log = history.log[: count - history.unloaded]
        last = log[-1].message_id if log else None
    if checkpoint and (checkpoint.message_count, checkpoint.last_message_id) != (count, last):
        problem = f"no longer has the history of checkpoint {checkpoint.name!r}"
        raise SessionStateError(session.session_id, problem)
    now = check_time(clock(), "clock()")
    values = values_of(session) | {
        "session_id": session_id,
        "user_id": session.user_id if user_id is None else user_id,
        "metadata": plain_object(session.metadata, "metadata"),
        "state": plain_object(checkpoint.state if checkpoint else session.state, "state"),
        "status": SessionStatus.ACTIVE,
        "created_at": now,
        "updated_at": now,
        "checkpoints": [each for each in session.checkpoints if each.message_count <= count],
        "parent": Parent(session.session_id, count, last),
        "summary": None if session.summary and session.summary.message_count > count else session.summary,
    }
    unloaded = sum(run.messages for run in shared)
    leading, question = history.leading, history.question
    made = History(log=log, unloaded=unloaded, line=shared, leading=leading, question=question, clock=clock)
    return session_of(values, made)


def _count(session: Session, pages: _Pages, at: At) -> tuple[int, Checkpoint | None]:
    """Return how many messages a fork begins with, and the checkpoint that *at* names, if it does."""
    total = session.message_count
    if at is None:
        return total, None
    if isinstance(at, int) and not isinstance(at, bool):
        if not 0 <= at <= total:
            raise InvalidValueError("at", f"is {shown(at)}; the session has {counted(total, 'message')}")
        return at, None
    at = at.name if isinstance(at, Checkpoint) else at.message_id if isinstance(at, Message) else at
    if not isinstance(at, str):
        problem = f"is {kind_of(at)}; it is a number of messages, a checkpoint's name, a message's id, or None"
        raise InvalidValueError("at", problem)
    for each in session.checkpoints:
        if each.name == at:
            return min(each.message_count, total), each
    history = history_of(session)
    index = history.find(at)
    found = pages.find(at) if index is None else None
    if index is None and found is None:
        raise InvalidValueError(
            "at", f"is {shown(at)}; the session has no checkpoint of that name, and no message of that id"
        )
    return history.unloaded + index + 1 if index is not None else found or 0, None


class _Pages:
    """The pages of a session, each read at most once. The number of messages in a page is known only from the page."""

    def __init__(self, backend: Backend, stored: StoredHead) -> None:
        self.runs = stored.head.sealed
        self._session_id = stored.head.session_id
        self._backend = backend
        self._count = stored.sealed
        self._read: dict[int, list[Message]] = {}

    def find(self, message_id: str) -> int | None:
        """Return the number of messages up to and including the one with this id. Reads pages from the newest back."""
        end = self._count
        for page in self._walk(range(sum(run.pages for run in self.runs))[::-1]):
            for n, each in enumerate(self._read[page]):
                if each.message_id == message_id:
                    return end - len(self._read[page]) + n + 1
            end -= len(self._read[page])
        return None

    def until(self, count: int) -> tuple[tuple[Run, ...], list[Message], str | None]:
        """Return the first *count* messages: the pages that are needed whole, the messages after them, the last id."""
        if not count:
            return (), [], None
        page, start = self._place(count)
        messages = self._read[page][: count - start]
        last = messages[-1].message_id
        if len(messages) == len(self._read[page]):
            page, start, messages = page + 1, count, []
        return tuple(first_pages(self.runs, page, start)), messages, last

    def _place(self, count: int) -> tuple[int, int]:
        """Return the number of the page that contains message number *count*, and how many messages precede that page.

        A head has the number of messages of each run of pages, not of each page, so pages are read from the nearer end
        of the run.
        """
        page = start = first = 0
        for run in self.runs:
            end, page = start + run.messages, page + run.pages
            if start < count <= end:
                pages = range(first, page)
                if count - start <= end - count:
                    for n in self._walk(pages):
                        if count <= start + len(self._read[n]):
                            return n, start
                        start += len(self._read[n])
                else:
                    for n in self._walk(pages[::-1]):
                        end -= len(self._read[n])
                        if end < count:
                            return n, end
            start, first = end, page if run.messages else first
        raise InvalidDocumentError(head_key(self._session_id), self._session_id, None, UNFIT)

    def _walk(self, pages: Sequence[int]) -> Iterator[int]:
        """Read pages, one, then two, then four at a time, and iterate over their numbers."""
        start, together = 0, 1
        while start < len(pages):
            batch = pages[start : start + together]
            first = min(batch)
            keys = page_keys(self.runs, first, first + len(batch))
            missing = {n: keys[n - first] for n in batch if n not in self._read}
            found = self._backend.storage.read([*missing.values()]) if missing else {}
            for n, key in missing.items():
                if key not in found:
                    raise InvalidDocumentError(key, self._session_id, None, MISSING)
                self._read[n] = read_messages(found[key], key, self._session_id)
            yield from batch
            start, together = start + together, 2 * together
