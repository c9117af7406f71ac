"""Merging two copies of a session that were changed at the same time.

*mine* is a stale copy about to be saved, *theirs* what is stored now; mine's origin is the base of both. Messages that
were appended on either side are kept, theirs first. State and metadata merge by key, at every depth; mine wins where
both set a key to different values. Changes of single messages merge, unless both changed the same one in different
ways. What was appended stays where the message still stands that it was written after. History that mine rewrote as a
whole merges with theirs where they only appended.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, Raw

from pyai_sessions.documents.keys import page_keys
from pyai_sessions.errors import SessionArchivedError, SessionConflictError, SessionDeletedError
from pyai_sessions.model.heads import SessionStatus, StoredHead
from pyai_sessions.model.history import Edit, History, Line
from pyai_sessions.model.points import Checkpoint, Summary
from pyai_sessions.model.session import Session, history_of, session_of
from pyai_sessions.values.joined import ABSENT, add, join
from pyai_sessions.values.json import plain, plain_object, read
from pyai_sessions.values.messages import Message, is_same, same_words


def first_needed(mine: Session, stored: StoredHead) -> int:
    """Return the number of the first stored page that a merge must read; *stored* is their head."""
    history = history_of(mine)
    base = history.origin
    if base is None:
        return 0
    if not history.is_changed and base.head.edition == stored.head.edition:
        return min(base.pages, stored.pages)
    # Messages keep their order. So where a page is the same at the edge of what mine has loaded, all that mine has not
    # loaded lies before it in theirs, too. The first page has the messages that instruct the model.
    first = base.pages - len(history.page_sizes)
    if first == 0 or history.rewritten_from is not None or not history.stored or _page(base, 0) != _page(stored, 0):
        return 0
    return first if any(_page(base, n) == _page(stored, n) != [] for n in (first - 1, first)) else 0


def _page(stored: StoredHead, number: int) -> list[str]:
    return page_keys(stored.head.sealed, number, number + 1)


def has_gone_back(mine: Session, theirs: Session) -> bool:
    """Return whether the storage lost messages that it had acknowledged: a replica took over, or a backup was put back.

    *theirs* may then hold other messages in their place.
    """
    base, their = history_of(mine).origin, history_of(theirs)
    if base is None or their.origin is None or their.origin.head.edition != base.head.edition:
        return False
    last = base.head.message_count - 1 - their.unloaded
    if base.last_message is None or last < 0:
        return False
    return last >= len(their.log) or their.log[last].message_id != base.last_message.message_id


def merge(mine: Session, theirs: Session) -> Session:
    """Return the session that keeps both changes, with *theirs* as its origin. Neither argument changes.

    *theirs* holds at least the pages from `first_needed` on, and all of them where it `has_gone_back`.

    Raises:
        SessionDeletedError: *theirs* is another session, created under the same id after mine was deleted.
        SessionArchivedError: *theirs* was archived meanwhile.
        SessionConflictError: Both changes cannot be kept.

    """
    my, their = history_of(mine), history_of(theirs)
    base, new = my.origin, their.origin
    if new is None:
        msg = "theirs was not read from a store"
        raise ValueError(msg)
    if my.incarnation != their.incarnation:
        raise SessionDeletedError(mine.session_id)
    if new.head.status == SessionStatus.ARCHIVED and mine.status != SessionStatus.ARCHIVED:
        raise SessionArchivedError(mine.session_id)
    changed_by_them = base is not None and new.head.edition != base.head.edition
    gone_back = has_gone_back(mine, theirs)
    if my.reordered and (changed_by_them or gone_back):
        raise _conflict(mine, base, new, "had its history rewritten by two writers")

    edits: dict[str, Edit] = {}
    if base is None or not (my.is_changed or changed_by_them or gone_back):
        log, page_sizes, unloaded = _both_appended(mine, theirs, base, new)
    elif my.reordered:
        log, page_sizes, unloaded = _i_rewrote(mine, theirs, base, new), their.page_sizes, their.unloaded
    else:
        edits, log = _changed_alone(mine, theirs, base, new, gone_back=gone_back)
        page_sizes, unloaded = their.page_sizes, their.unloaded

    values: dict[str, Any] = {
        "session_id": mine.session_id,
        "title": theirs.title if base and mine.title == (base.head.title or None) else mine.title,
        "user_id": theirs.user_id if base and mine.user_id == base.head.user_id else mine.user_id,
        "metadata": _by_key(base.head.metadata if base else None, mine.metadata, theirs.metadata, "metadata"),
        "state": _by_key(base.head.state if base else None, mine.state, theirs.state, "state", my.added_to),
        "status": theirs.status if base and mine.status == base.head.status else mine.status,
        "created_at": theirs.created_at,
        "updated_at": max(mine.updated_at, theirs.updated_at),
        "checkpoints": _checkpoints(base, mine, theirs),
        "summary": _summary(base, mine, theirs),
        "parent": theirs.parent,
    }
    if mine.unknown_fields or theirs.unknown_fields:
        values["unknown_fields"] = {**mine.unknown_fields, **theirs.unknown_fields}
    history = History(
        log=log,
        unloaded=unloaded,
        hidden=min(my.hidden, len(log)) if unloaded == my.unloaded else 0,
        origin=new,
        page_sizes=list(page_sizes),
        rewritten_from=my.first_change if my.reordered else None,
        edits=edits,
        reordered=my.reordered,
        incarnation=new.head.incarnation,
        clock=my.clock,
        branches=_branches(base, my, their),
        leading=their.leading,
        question=their.question,
        asked=my.asked if unloaded == my.unloaded else their.asked if unloaded == their.unloaded else None,
        instructions=(my.instructions or their.instructions) if unloaded else [],
        added_to=my.added_to,
    )
    return session_of(values, history)


def _both_appended(
    mine: Session, theirs: Session, base: StoredHead | None, new: StoredHead
) -> tuple[list[Message], list[int], int]:
    my, their = history_of(mine), history_of(theirs)
    count = my.origin.head.message_count if my.origin else 0
    common = my.log[: count - my.unloaded]
    added = their.log[count - their.unloaded :]
    _check_words(mine, my.log[len(common) :], added, base, new)
    ids = {each.message_id for each in added}
    log = [*common, *added, *(each for each in my.log[len(common) :] if each.message_id not in ids)]
    # Their pages go on where mine end, since pages never change.
    page_sizes, start = list(my.page_sizes), their.unloaded
    for size in their.page_sizes:
        if start >= my.sealed:
            page_sizes.append(size)
        start += size
    return log, page_sizes, my.unloaded


def _changed_alone(
    mine: Session, theirs: Session, base: StoredHead, new: StoredHead, *, gone_back: bool
) -> tuple[dict[str, Edit], list[Message]]:
    """Return their messages with what I changed of single ones, and with what I appended; what I changed comes first.

    Where the storage has *gone_back*, what it lost counts as appended.

    Raises:
        SessionConflictError: Both changed the same message, or one took back the message that the other wrote after.

    """
    my, their = history_of(mine), history_of(theirs)
    added, changes = my.log[my.stored :], my.changes()
    there = {each.message_id: each for each in their.log}
    last = base.last_message.message_id if base.last_message else None
    if gone_back:
        last = None
    if added and last is not None and last not in there:
        raise _conflict(mine, base, new, "had the message taken back that yours were written after")
    is_taken_back = last in changes and changes[last][1] is None
    if is_taken_back and last in there and their.log[-1].message_id != last:
        raise _conflict(mine, base, new, "got messages after one that you took back")
    edits: dict[str, Edit] = {}
    log: list[Message | None] = list(their.log)
    places = {each.message_id: n for n, each in enumerate(their.log)} if changes else {}
    for message_id, (edit, now) in changes.items():
        found = there.get(message_id)
        if (found is now or (found and now and is_same(found, now))) or (gone_back and found is None):
            continue
        if found is None or not is_same(found, edit.old):
            raise _conflict(mine, base, new, f"had message {message_id!r} changed by two writers")
        place = places[message_id]
        edits[message_id], log[place] = Edit(found, their.unloaded + place), now
    _check_words(mine, added, their.log, base, new)
    kept, lacking = [each for each in log if each is not None], my.log if gone_back else added
    return edits, kept + [each for each in lacking if each.message_id not in there]


def _i_rewrote(mine: Session, theirs: Session, base: StoredHead, new: StoredHead) -> list[Message]:
    my, their = history_of(mine), history_of(theirs)
    before, added = their.log[: base.head.message_count], their.log[base.head.message_count :]
    if added and base.last_message is not None and base.last_message not in my.log:
        raise _conflict(mine, base, new, "got messages after one that you rewrote")
    old = {each.message_id for each in before}
    _check_words(mine, [each for each in my.log if each.message_id not in old], added, base, new)
    seen = {each.message_id for each in added}
    kept = [*before[: my.unloaded], *(each for each in my.log if each.message_id in old)]
    return [*kept, *added, *(each for each in my.log if each.message_id not in old and each.message_id not in seen)]


def _check_words(
    mine: Session, added: Iterable[Message], theirs: Iterable[Message], base: StoredHead | None, new: StoredHead
) -> None:
    """Raise where a message that was added to mine has the id, but not the words, of one of theirs."""
    stored = {each.message_id: each for each in theirs}
    for each in added:
        if each.message_id in stored and not same_words(stored[each.message_id], each):
            raise _conflict(mine, base, new, f"has another message {each.message_id!r} than yours, with other content")


def _conflict(mine: Session, base: StoredHead | None, new: StoredHead, problem: str) -> SessionConflictError:
    return SessionConflictError(mine.session_id, base.head.revision if base else None, new.head.revision, problem)


def _by_key(
    base_json: Raw | None, mine: dict[str, Any], theirs: dict[str, Any], name: str, added_to: Iterable[str] = ()
) -> dict[str, Any]:
    base: dict[str, Any] = {} if base_json is None else read(bytes(base_json))
    mine, theirs = plain_object(mine, name), plain_object(theirs, name)
    merged: dict[str, Any] = join(base, mine, theirs)
    for key in added_to:
        total = add(base.get(key, ABSENT), mine.get(key), theirs.get(key))
        if total is not ABSENT:
            merged[key] = plain(total, f"{name}[{key!r}]")
    return merged


def _checkpoints(base: StoredHead | None, mine: Session, theirs: Session) -> list[Checkpoint]:
    old = [Checkpoint.from_dict(each) for each in read(bytes(base.head.checkpoints))] if base else []
    gone = {each.name for each in old} - {each.name for each in mine.checkpoints}
    added = [each for each in mine.checkpoints if each not in old]
    replaced = gone | {each.name for each in added}
    return [each for each in theirs.checkpoints if each.name not in replaced] + added


def _summary(base: StoredHead | None, mine: Session, theirs: Session) -> Summary | None:
    old = read(bytes(base.head.summary)) if base and base.head.summary is not UNSET else None
    unchanged = base and old == (None if mine.summary is None else mine.summary.to_dict())
    return theirs.summary if unchanged else mine.summary


def _branches(base: StoredHead | None, my: History, their: History) -> list[Line]:
    old = {each.branch_id for each in base.head.branches or ()} if base else set[str]()
    mine = {each.branch_id for each in my.branches}
    both = {each.branch_id for each in their.branches}
    kept = [each for each in their.branches if each.branch_id not in old - mine]
    return kept + [each for each in my.branches if each.branch_id not in old | both]
