"""Checking and repairing a whole storage: `verify` and `reindex`."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec

from pyai_sessions.documents.envelopes import start_of, text_of
from pyai_sessions.documents.keys import (
    aside_key,
    branch_key,
    encode_id,
    head_key,
    is_page,
    is_state,
    page_keys,
    page_prefix,
    parts_of_reference,
    session_of_key,
    written_key,
)
from pyai_sessions.documents.limits import time_left
from pyai_sessions.documents.listed import Place
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
from pyai_sessions.sessions.backend import Backend, Progress
from pyai_sessions.sessions.loading import MISSING, Attempts, load
from pyai_sessions.sessions.pages import keys_beside, pages_there
from pyai_sessions.storage.protocol import Change, Storage
from pyai_sessions.upkeep import shared_state
from pyai_sessions.upkeep.holdings import is_aside, raw
from pyai_sessions.values.checks import Clock, counted
from pyai_sessions.values.json import write
from pyai_sessions.values.messages import Message
from pyai_sessions.values.tokens import new_token

_UNOPENED = (EncryptionError, OversizedDocumentError)

_PAGES_TOGETHER = 1000
"""Keys of pages that are kept in memory before they are checked; and pages that are read in one trip."""

_TIDYING = 0.5
"""Seconds within which a save has removed the shared pages that its session no longer needs."""

_TOLD = 1000
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


@dataclass
class Verification:
    """The result of `verify`: the number of *sessions*, and the *problems* found. True if no problem is left."""

    sessions: int = 0
    problems: list[Problem] = field(default_factory=list[Problem])

    def __bool__(self) -> bool:
        return all(each.repaired for each in self.problems)


def reindex(backend: Backend, progress: Progress | None = None) -> int:
    """Correct the indexes while others write. Return the number of sessions."""
    count = 0
    for found, wrong in indexes.disagreeing(backend):
        _mend_indexes(backend, wrong)
        count += found
        if progress and found:
            progress(count)
    return count


def _mend_indexes(backend: Backend, wrong: Mapping[str, list[Place]]) -> None:
    """Correct the entries of these sessions, each with those that are *wrong*."""
    if not wrong:
        return
    with backend.storage.exclusive():
        changed = [each for each, stale in wrong.items() if not indexes.mend(backend, each, stale)]
    for session_id in changed:
        for _ in Attempts(backend, session_id):
            if indexes.mend(backend, session_id, wrong[session_id]):
                break


def verify(backend: Backend, *, repair: bool, clock: Clock, progress: Progress | None = None) -> Verification:
    """Read everything, and report what is wrong. *repair* corrects what can be corrected."""
    report = Verification()
    pages: dict[str, set[str]] = {}
    references: list[str] = []
    aside: set[str] = set()
    for n, key in enumerate(backend.storage.keys(), start=1):
        session_id = session_of_key(key)
        if session_id is not None:
            if key.startswith("forks/"):
                references.append(key)
            elif key != head_key(session_id):
                pages.setdefault(session_id, set()).add(key)
            else:
                if _verify_session(backend, session_id, report, repair=repair, clock=clock):
                    aside.add(encode_id(session_id))
                if progress:
                    progress(report.sessions)
        elif key.startswith("state/") and is_state(key):
            _verify_state(backend, key, report, repair=repair)
        elif key.startswith("unreadable/"):
            aside.add(key.split("/")[1])
        if n % _PAGES_TOGETHER == 0:
            _verify_pages(backend, pages, report, repair=repair)
    _verify_pages(backend, pages, report, repair=repair)
    _verify_references(backend, references, aside, report, repair=repair)
    _verify_indexes(backend, report, repair=repair)
    return report


def _verify_state(backend: Backend, key: str, report: Verification, *, repair: bool) -> None:
    value = backend.storage.read([key]).get(key)
    err = None if value is None else shared_state.problem_of(backend, key, value)
    if err is not None:
        kind = "encryption" if isinstance(err, _UNOPENED) else "unreadable state"
        repaired = repair and kind != "encryption" and shared_state.set_aside(backend.storage, key, value)
        report.problems.append(Problem(kind, "", f"{err.reason}: {key}", repaired=repaired))


def _verify_indexes(backend: Backend, report: Verification, *, repair: bool) -> None:
    wrong: set[str] = set()
    for _, batch in indexes.disagreeing(backend):
        wrong.update(batch)
        if repair:
            _mend_indexes(backend, batch)
    detail = "its index entries do not fit its document"
    report.problems += [Problem("index", each, detail, repaired=repair) for each in sorted(wrong)]


def _verify_session(backend: Backend, session_id: str, report: Verification, *, repair: bool, clock: Clock) -> bool:
    """Report, and repair, what is wrong with a session. Return whether its head was set aside."""
    report.sessions += 1
    problems = list(_damage(backend, session_id, clock))
    repair = repair and all(each.kind != "encryption" for each in problems)
    if problems and repair:
        repair = _mend(backend, session_id, clock)
    problems += _lacks(backend, session_id, clock, repair=repair)
    report.problems += [Problem(each.kind, session_id, each.detail, repaired=repair) for each in problems]
    return repair and any(each.kind == "unreadable head" for each in problems)


def _lacks(backend: Backend, session_id: str, clock: Clock, *, repair: bool) -> Iterator[Problem]:
    """Find, and write, the references to shared pages that a fork needs and that are missing."""
    value = backend.head(session_id)
    with suppress(InvalidDocumentError):
        stored = None if value is None else read_head(value, session_id)
        lacks = [] if stored is None else forks.missing_of_parents(backend.storage, stored)
        for each in lacks if backend.head(session_id) == value else ():
            if repair and stored is not None:
                forks.put_reference(backend.storage, each.key, each.pages, time_left(stored.expires_at, clock))
            yield Problem("missing reference", session_id, each.key)


def _verify_references(
    backend: Backend, references: list[str], aside: set[str], report: Verification, *, repair: bool
) -> None:
    """Report, and remove, references whose forks are gone.

    *aside* are forks that were set aside, encoded as in keys. Their references stay: someone may repair such a fork by
    hand, and then needs the pages.
    """
    suspects: list[str] = []
    by_fork: dict[str, list[str]] = {}  # so that the head of each fork is read once
    for key in references:
        by_fork.setdefault(parts_of_reference(key)[1], []).append(key)
    groups = iter(by_fork.values())
    while batch := list(islice(groups, indexes.BATCH)):
        suspects += forks.dead_references(backend, [key for keys in batch for key in keys])
    suspects = [each for each in suspects if encode_id(parts_of_reference(each)[1]) not in aside]
    if suspects and backend.settle_forks:
        time.sleep(backend.settle_forks)  # a fork writes its references before its head
        suspects = forks.dead_references(backend, suspects)
    for key in suspects:
        owner, fork, _ = parts_of_reference(key)
        if repair:
            forks.free_pages(backend, owner, reference=key)
        report.problems.append(Problem("orphan reference", fork, f"its fork is gone: {key}", repaired=repair))


def _verify_pages(backend: Backend, pages: dict[str, set[str]], report: Verification, *, repair: bool) -> None:
    """Report, and remove, those of *pages*, by session, that nothing names. Empties *pages*."""
    doubted = {session_id: set(_unnamed(backend, session_id, keys)[0]) for session_id, keys in pages.items()}
    doubted = {session_id: keys for session_id, keys in doubted.items() if keys}
    wait = backend.settle or min(backend.settle_forks, _TIDYING)
    if doubted and wait:
        time.sleep(wait)  # a save in progress may be about to name them, or to remove them
    for session_id, keys in doubted.items():
        report.problems += _orphans(backend, session_id, keys, repair=repair)
    pages.clear()


def _damage(backend: Backend, session_id: str, clock: Clock) -> Iterator[Problem]:
    """Find what of a session cannot be read. The detail of a problem ends with the key of the document."""
    value = backend.head(session_id)
    if value is None:
        return
    try:
        stored = read_head(value, session_id)
        readable, bad = _without_unreadable_messages(stored, clock)
    except InvalidDocumentError as err:
        kind = "encryption" if isinstance(err, _UNOPENED) else "unreadable head"
        yield Problem(kind, session_id, f"{err.reason}: {head_key(session_id)}")
        return
    reported = 0
    if bad:
        problem = f"{counted(len(bad), 'message')} of its newest cannot be read: {head_key(session_id)}"
        yield Problem("unreadable message", session_id, problem)
    for key, page, _, reason in _pages(backend, stored.head, _named_keys(stored.head)):
        if reason and backend.head(session_id) == value:  # else another writer has replaced the pages
            kind = "missing page" if page is None else "unreadable page"
            yield Problem("encryption" if isinstance(page, _UNOPENED) else kind, session_id, f"{reason}: {key}")
            reported += 1
            if reported == _TOLD:
                return
    if not reported and backend.head(session_id) == value:
        yield from _contradictions(backend, readable, clock)


def _contradictions(backend: Backend, stored: StoredHead, clock: Clock) -> Iterator[Problem]:
    """Find what does not agree in a session of which each document can be read."""
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
    """Return a head without those of its messages that cannot be read, and the JSON of these.

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
    """Iterate over the keys of all pages that a head names. Holds few at a time: a forged head can name a million."""
    runs = named_runs(head)
    for start in range(0, sum(run.pages for run in runs), _PAGES_TOGETHER):
        yield from page_keys(runs, start, start + _PAGES_TOGETHER)


def _pages(
    backend: Backend, head: Head, keys: Iterable[str]
) -> Iterator[tuple[str, object | None, list[Message], str]]:
    """Read pages. Iterate over the key, the value, the messages, and why some of these cannot be read, or ""."""
    branches = branch_keys(head)
    found = (
        (key, there.get(key))
        for batch in indexes.batches(keys, _PAGES_TOGETHER)
        for there in [backend.storage.read(batch)]
        for key in batch
    )
    for key, page in found:
        messages: list[Message] = []
        reason = MISSING if page is None else ""
        try:
            if page is not None and key in branches:
                read_branch(page, key, head.session_id)
            elif page is not None:
                messages = read_messages(page, key, head.session_id)
        except InvalidDocumentError as err:
            reason = err.reason
            if key not in branches:
                with suppress(InvalidDocumentError):
                    messages, _ = sort_messages(page, key, head.session_id)
        yield key, page, messages, reason


def _mend(backend: Backend, session_id: str, clock: Clock) -> bool:
    """Set aside the unreadable documents and messages of a session; the rest of it stays. Return whether it was done.

    It is not done where a document cannot be decrypted.
    """
    attempts = Attempts(backend, session_id)
    for _ in attempts:
        with attempts.exclusive():
            value = backend.head(session_id)
            if value is None:
                return True
            try:
                stored, bad = _without_unreadable_messages(read_head(value, session_id), clock)
            except _UNOPENED:
                return False
            except InvalidDocumentError:
                pages = [key for key in backend.storage.keys(page_prefix(session_id)) if is_page(key, session_id)]
                unnamed = forks.unreferenced(backend.storage, session_id, None, pages)
                done = _set_aside(backend.storage, session_id, [head_key(session_id), *unnamed])
            else:
                done = _drop_unreadable(backend, stored, bad, clock)
        if done:
            return True
    return False


def _set_aside(storage: Storage, session_id: str, keys: list[str]) -> bool:
    """Move documents of a session, unchanged, to keys under ``unreadable/``. Return False if one changed meanwhile."""
    found = storage.read(keys)
    if not found:
        return True
    token = _token_aside(storage, session_id, found)
    put = [(aside_key(key, token), value) for key, value in found.items()]
    expect: list[tuple[str, str | None]] = [(key, start_of(value)) for key, value in found.items()]
    first, text = put[0]
    if storage.read([first]):  # a copy that a repair left which was cut short
        return storage.write([Change(expect, put=put, drop=list(found))])[0]
    # Where the first copy lies there already, a client has sent the change a second time.
    return storage.write([Change([(first, None), *expect], start_of(text), put, list(found))])[0]


def _token_aside(storage: Storage, session_id: str, documents: Mapping[str, object]) -> str:
    """Return the token of the keys to which documents are to be moved.

    On a plain mapping a repair that was cut short may have written some of the copies. They are found by their content,
    and have the token: then nothing is set aside twice.
    """
    copies: dict[str, dict[str, object]] = {}
    for key in keys_beside(storage, [session_id]):
        if is_aside(key) and written_key(key) in documents:
            copies.setdefault(key.split("/")[2], {})[written_key(key)] = storage.read([key]).get(key)
    for token, found in copies.items():
        if all(_content(documents[key]) == _content(value) for key, value in found.items()):
            return token
    return new_token(6)


def _content(document: object) -> object:
    """Return a stored document in a form that can be compared."""
    stored = raw(document)
    text = text_of(stored)
    return stored if text is None else text


def _drop_unreadable(backend: Backend, stored: StoredHead, bad: list[Any], clock: Clock) -> bool:
    """Set aside the unreadable pages of a session and its *bad* messages; all other messages stay in it.

    Return False if it was changed meanwhile.
    """
    session_id = stored.head.session_id
    readable: set[str] = set()
    messages_of: dict[str, list[Message]] = {}
    unreadable: dict[str, list[str]] = {}
    there = pages_there(backend.storage, named_runs(stored.head))
    for key, page, messages, reason in _pages(backend, stored.head, there):
        messages_of[key] = messages
        if not reason:
            readable.add(key)
        elif page is not None:
            unreadable.setdefault(session_of_key(key) or session_id, []).append(key)
    if not all(_set_aside(backend.storage, owner, keys) for owner, keys in unreadable.items()):
        return False
    session = restore(stored, [], clock)
    history = history_of(session)
    sealed = pages_there(backend.storage, stored.head.sealed)
    history.prepend([each for key in sealed for each in messages_of.get(key, ())], [])
    history.rewritten_from = 0
    history.branches = [each for each in history.branches if _is_whole(branch_runs(session_id, each.stored), readable)]
    if repeats(history.log):
        _rename_repeated(session)
    draft = compose(session, backend.kept)
    if bad:
        aside = {branch_key(session_id, "head"): write(bad)}
        token = _token_aside(backend.storage, session_id, aside)
        copies = {aside_key(key, token): text for key, text in aside.items()}
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


def _orphans(backend: Backend, session_id: str, keys: set[str], *, repair: bool) -> list[Problem]:
    """Report, and remove, those of a session's pages that nothing names."""
    orphans, value = _unnamed(backend, session_id, keys)
    repaired = bool(orphans) and repair and forks.drop(backend.storage, session_id, value, orphans)
    return [Problem("orphan page", session_id, f"no head names it: {key}", repaired=repaired) for key in orphans]


def _unnamed(backend: Backend, session_id: str, keys: set[str]) -> tuple[list[str], object | None]:
    """Return the stored pages of a session among *keys* that nothing names; and the session's head."""
    value = backend.head(session_id)
    unnamed = forks.unreferenced(backend.storage, session_id, value, keys)
    there = backend.storage.read(unnamed) if unnamed else {}
    return [key for key in unnamed if key in there], value
