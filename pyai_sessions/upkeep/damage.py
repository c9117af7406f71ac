"""Damage to one session: which of its documents and messages cannot be read, and a repair that keeps the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from pyai_sessions.documents.keys import branch_key, head_key, is_page, page_keys, page_prefix
from pyai_sessions.documents.reading import (
    branch_keys,
    read_branch,
    read_head,
    read_messages,
    restore,
    sort_messages,
    stamp_of_value,
    write_messages,
)
from pyai_sessions.documents.writing import compose
from pyai_sessions.errors import EncryptionError, InvalidDocumentError, OversizedDocumentError
from pyai_sessions.model.heads import Head, Run, StoredHead, branch_runs, named_runs
from pyai_sessions.model.points import Checkpoint, Summary
from pyai_sessions.model.session import Session, history_of
from pyai_sessions.model.unrepeated import repeats, unrepeated
from pyai_sessions.sessions import forks, indexes
from pyai_sessions.sessions.attempts import until_done
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.loading import MISSING, load
from pyai_sessions.sessions.pages import pages_there
from pyai_sessions.upkeep.aside import copies_aside, set_aside
from pyai_sessions.values.checks import Clock
from pyai_sessions.values.json import write
from pyai_sessions.values.messages import Message

NOT_DECRYPTED = (EncryptionError, OversizedDocumentError)
"""Errors of documents that other keys or bounds would open: they are reported and never set aside."""

_TOGETHER = 1000
"""Pages that are read in one trip."""

_REPORTED = 1000
"""Missing pages of one session that are reported at most: a forged head can name a million."""


@dataclass(frozen=True)
class Problem:
    """Something that `verify` found: its *kind*, the *session_id*, a *detail*, and whether it was *repaired*.

    ======================  ============================================================================================
    kind                    what it means; what ``verify(repair=True)`` does
    ======================  ============================================================================================
    ``unreadable head``     the session cannot be read; its documents are set aside
    ``unreadable page``     older messages cannot be read; the page is set aside, and its legible messages are kept
    ``unreadable message``  one of the newest messages cannot be read; it is set aside
    ``missing page``        the head names a page that is not stored; the session goes on without it
    ``wrong count``         the head and the messages do not agree; the head is corrected
    ``repeated message``    two messages have the same id; the later one gets a new id
    ``orphan page``         no session needs the page; it is removed
    ``missing reference``   nothing protects the pages that a fork shares; the reference is written
    ``orphan reference``    the fork of the reference is gone; the reference is removed
    ``unreadable state``    the state of a user, or of the application, cannot be read; it is set aside (no session_id)
    ``index``               the session's index entries are missing or wrong; they are corrected
    ``encryption``          the store is opened without the key that the document needs; nothing is changed
    ======================  ============================================================================================
    """

    kind: str
    session_id: str
    detail: str
    repaired: bool = False


# Finding ------------------------------------------------------------------------------------------------------------


def find_damage(backend: Backend, session_id: str, clock: Clock) -> Iterator[Problem]:
    """Iterate over what cannot be read of a session. The detail of each problem ends with the document's key."""
    value = backend.head(session_id)
    if value is None:
        return
    try:
        stored = read_head(value, session_id)
        readable, bad = _without_unreadable_messages(stored, clock)
    except InvalidDocumentError as err:
        kind = "encryption" if isinstance(err, NOT_DECRYPTED) else "unreadable head"
        yield Problem(kind, session_id, f"{err.reason}: {head_key(session_id)}")
        return
    reported = 0
    if bad:
        problem = f"{len(bad)} of its newest messages cannot be read: {head_key(session_id)}"
        yield Problem("unreadable message", session_id, problem)
    for page in _read_pages(backend, stored.head, _named_keys(stored.head)):
        if page.reason and backend.head(session_id) == value:  # else another writer has replaced the pages
            kind = "missing page" if page.value is None else "unreadable page"
            kind = "encryption" if isinstance(page.value, NOT_DECRYPTED) else kind
            yield Problem(kind, session_id, f"{page.reason}: {page.key}")
            reported += 1
            if reported == _REPORTED:
                return
    if not reported and backend.head(session_id) == value:
        yield from _find_contradictions(backend, readable, clock)


def _find_contradictions(backend: Backend, stored: StoredHead, clock: Clock) -> Iterator[Problem]:
    """Iterate over what does not agree in a session whose documents can all be read."""
    session_id = stored.head.session_id
    try:
        session = load(backend, stored, clock, wanted=stored.sealed)
    except InvalidDocumentError as err:
        if stamp_of_value(backend.head(session_id)) == stored.stamp:
            yield Problem("wrong count", session_id, f"{err.reason}: {err.key}")
    else:
        if session is not None and repeats(history_of(session).log):
            yield Problem("repeated message", session_id, f"two of its messages have one id: {head_key(session_id)}")


def _without_unreadable_messages(stored: StoredHead, clock: Clock) -> tuple[StoredHead, list[Any]]:
    """Return a head without those of its messages that cannot be read, and these messages as JSON.

    Raises:
        InvalidDocumentError: Another part of the head cannot be read.

    """
    try:
        restore(stored, [], clock)
    except InvalidDocumentError:
        head = stored.head
        sound, bad = sort_messages(bytes(head.messages), head_key(head.session_id), head.session_id)
        if not bad:
            raise
        head = msgspec.structs.replace(head, messages=msgspec.Raw(write_messages(sound)), message_count=-1)
        fixed = msgspec.structs.replace(stored, head=head)
        restore(fixed, [], clock)
        return fixed, bad
    return stored, []


def _named_keys(head: Head) -> Iterator[str]:
    """Iterate over the keys of all pages that a head names, of which a forged head can name a million."""
    runs = named_runs(head)
    for start in range(0, sum(run.pages for run in runs), _TOGETHER):
        yield from page_keys(runs, start, start + _TOGETHER)


class _Page(NamedTuple):
    """A page as it is stored, its legible messages, and why others cannot be read: "" if all can."""

    key: str
    value: object | None
    messages: list[Message]
    reason: str


def _read_pages(backend: Backend, head: Head, keys: Iterable[str]) -> Iterator[_Page]:
    """Read pages of a session; the document of a branch counts as one."""
    branches = branch_keys(head)
    for batch in indexes.batches(keys, _TOGETHER):
        found = backend.storage.read(batch)
        for key in batch:
            value = found.get(key)
            messages: list[Message] = []
            reason = MISSING if value is None else ""
            try:
                if value is not None and key in branches:
                    read_branch(value, key, head.session_id)
                elif value is not None:
                    messages = read_messages(value, key, head.session_id)
            except InvalidDocumentError as err:
                reason = err.reason
                if key not in branches:
                    with suppress(InvalidDocumentError):
                        messages, _ = sort_messages(value, key, head.session_id)
            yield _Page(key, value, messages, reason)


# Repairing ----------------------------------------------------------------------------------------------------------


def repair_session(backend: Backend, session_id: str, clock: Clock) -> bool:
    """Set aside the unreadable documents and messages of a session, and keep the rest of it.

    Return False, and change nothing, if one of the documents cannot be decrypted.
    """

    def attempt() -> bool | None:
        value = backend.head(session_id)
        if value is None:
            return True
        try:
            stored, bad = _without_unreadable_messages(read_head(value, session_id), clock)
        except NOT_DECRYPTED:
            return False
        except InvalidDocumentError:
            pages = [key for key in backend.storage.keys(page_prefix(session_id)) if is_page(key, session_id)]
            unneeded = forks.unreferenced(backend.storage, session_id, None, pages)
            return set_aside(backend.storage, [head_key(session_id), *unneeded]) or None
        return _drop_unreadable(backend, stored, bad, clock) or None

    return until_done(backend, session_id, attempt)


def _drop_unreadable(backend: Backend, stored: StoredHead, bad: list[Any], clock: Clock) -> bool:
    """Set aside the unreadable pages of a session and its unreadable newest messages, *bad*; keep its other messages.

    Return False if another writer changed the session meanwhile.
    """
    session_id = stored.head.session_id
    named = pages_there(backend.storage, named_runs(stored.head))
    messages: dict[str, list[Message]] = {}
    readable: set[str] = set()
    for page in _read_pages(backend, stored.head, named):
        messages[page.key] = page.messages
        if not page.reason:
            readable.add(page.key)
        elif page.value is not None and not set_aside(backend.storage, [page.key]):
            return False
    session = restore(stored, [], clock)
    history = history_of(session)
    sealed = pages_there(backend.storage, stored.head.sealed)
    history.prepend([each for key in sealed for each in messages.get(key, ())], [])
    history.rewritten_from = 0
    history.branches = [each for each in history.branches if _is_whole(branch_runs(session_id, each.stored), readable)]
    if repeats(history.log):
        _rename_repeated(session)
    draft = compose(session, backend.kept)
    if bad:
        copies = {key: write(bad) for key in copies_aside({branch_key(session_id, "head"): write(bad)})}
        draft = msgspec.structs.replace(draft, pages=draft.pages | copies)
    done = backend.commit(draft)
    if done:
        forks.free_shared(backend, history.origin, draft)
    return done


def _rename_repeated(session: Session) -> None:
    """Give a new id to each message that has the id of an earlier one."""
    log, summary = history_of(session).log, session.summary
    made, _ = unrepeated(
        {
            "messages": [each.to_dict() for each in log],
            "checkpoints": [each.to_dict() for each in session.checkpoints],
            **({} if summary is None else {"summary": summary.to_dict()}),
        }
    )
    log[:] = [Message.from_dict(each) for each in made["messages"]]
    session.checkpoints = [Checkpoint.from_dict(each) for each in made["checkpoints"]]
    session.summary = None if summary is None else Summary.from_dict(made["summary"])


def _is_whole(runs: Sequence[Run], readable: Collection[str]) -> bool:
    """Return whether all pages of *runs* are among the *readable* keys."""
    return sum(run.pages for run in runs) <= len(readable) and all(key in readable for key in page_keys(runs))
