"""Merging two copies of a session that were changed at the same time.

*mine* is a stale copy about to be saved, *theirs* what is stored now; the base of both is mine's origin. Messages that
were appended on either side are kept, theirs first. State and metadata merge key by key, where mine wins a key that both
changed. Rewritten history merges with appended messages where those still follow the message they were written after.
"""

from __future__ import annotations

from typing import Any

from pyai_sessions.errors import SessionArchivedError, SessionConflictError, SessionDeletedError
from pyai_sessions.models import Checkpoint, Message, Origin, Session, SessionStatus
from pyai_sessions.values import plain, read

# The private attributes of Session are bookkeeping that it shares with its store; this room is part of the store.
# ruff: noqa: SLF001


def needed(mine: Session, sealed: int, edition: str) -> int:
    """Return how many of the first stored messages a merge can do without; *sealed* and *edition* are theirs."""
    origin = mine._origin
    if origin is None or mine._rewritten_from is not None or origin.edition != edition:
        return 0
    return min(origin.sealed, sealed)


def merge(mine: Session, theirs: Session) -> Session:
    """Return the session that keeps both changes, with *theirs* as its origin. Neither argument changes.

    *theirs* holds at least the messages from `needed` on.

    Raises:
        SessionDeletedError: *theirs* is another session, created under the same id after mine was deleted.
        SessionArchivedError: *theirs* was archived meanwhile.
        SessionConflictError: Both changes cannot be kept.

    """
    base, new = mine._origin, theirs._origin
    assert new is not None  # noqa: S101 (it was read from the store)
    if mine._incarnation != theirs._incarnation:
        raise SessionDeletedError(mine.session_id)
    if new.status is SessionStatus.ARCHIVED and mine.status is not SessionStatus.ARCHIVED:
        raise SessionArchivedError(mine.session_id)
    rewritten_by_me = mine._rewritten_from is not None
    rewritten_by_them = base is not None and new.edition != base.edition
    if rewritten_by_me and rewritten_by_them:
        raise _conflict(mine, base, new, "had its history rewritten by two writers")

    if base is None or not (rewritten_by_me or rewritten_by_them):
        log, sizes, unloaded = _both_appended(mine, theirs, base)
    elif rewritten_by_them:
        log, sizes, unloaded = _they_rewrote(mine, theirs, base, new), theirs._page_sizes, 0
    else:
        log, sizes, unloaded = _i_rewrote(mine, theirs, base, new), theirs._page_sizes, 0

    values = {
        "session_id": mine.session_id,
        "user_id": theirs.user_id if base and mine.user_id == base.user_id else mine.user_id,
        "status": theirs.status if base and mine.status == base.status else mine.status,
        "metadata": _by_key(base.metadata if base else "{}", mine.metadata, theirs.metadata),
        "state": _by_key(base.state if base else "{}", mine.state, theirs.state),
        "checkpoints": _checkpoints(base, mine, theirs),
        "created_at": theirs.created_at,
        "updated_at": max(mine.updated_at, theirs.updated_at),
    }
    unknown = {**mine._unknown, **theirs._unknown}
    if unknown:
        values["_unknown"] = unknown
    merged = Session._restored(values, log, new, list(sizes), unloaded, mine._clock)
    merged._rewritten_from = mine._rewritten_from
    return merged


def _both_appended(mine: Session, theirs: Session, base: Origin | None) -> tuple[list[Message], list[int], int]:
    count = base.message_count if base else 0
    common = mine._log[: count - mine._unloaded]
    added = theirs._log[count - theirs._unloaded :]
    ids = {each.message_id for each in added}
    log = [*common, *added, *(each for each in mine._log[len(common) :] if each.message_id not in ids)]
    # Their pages begin where mine end, since pages never change.
    sealed, start = (base.sealed if base else 0), theirs._unloaded
    sizes = list(mine._page_sizes) if base else []
    for size in theirs._page_sizes:
        if start >= sealed:
            sizes.append(size)
        start += size
    return log, sizes, mine._unloaded


def _they_rewrote(mine: Session, theirs: Session, base: Origin, new: Origin) -> list[Message]:
    added = mine._log[base.message_count - mine._unloaded :]
    if added and base.last_message is not None and base.last_message not in theirs._log:
        raise _conflict(mine, base, new, "had the message rewritten that yours were written after")
    ids = {each.message_id for each in theirs._log}
    return [*theirs._log, *(each for each in added if each.message_id not in ids)]


def _i_rewrote(mine: Session, theirs: Session, base: Origin, new: Origin) -> list[Message]:
    before, added = theirs._log[: base.message_count], theirs._log[base.message_count :]
    if added and base.last_message is not None and base.last_message not in mine._log:
        raise _conflict(mine, base, new, "got messages after one that you rewrote")
    old = {each.message_id for each in before}
    seen = {each.message_id for each in added}
    kept = [*before[: mine._unloaded], *(each for each in mine._log if each.message_id in old)]
    return [*kept, *added, *(each for each in mine._log if each.message_id not in old and each.message_id not in seen)]


def _conflict(mine: Session, base: Origin | None, new: Origin, problem: str) -> SessionConflictError:
    return SessionConflictError(mine.session_id, base.revision if base else None, new.revision, problem)


def _by_key(base_text: str, mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    base: dict[str, Any] = read(base_text)
    merged = dict(theirs)
    for key in {*base, *mine}:
        if key not in mine:
            merged.pop(key, None)
        elif key not in base or base[key] != mine[key]:
            merged[key] = plain(mine[key], "value")
    return merged


def _checkpoints(base: Origin | None, mine: Session, theirs: Session) -> list[Checkpoint]:
    old = [Checkpoint.from_dict(each) for each in read(base.checkpoints)] if base else []
    gone = {each.name for each in old} - {each.name for each in mine.checkpoints}
    added = [each for each in mine.checkpoints if each not in old]
    replaced = gone | {each.name for each in added}
    return [each for each in theirs.checkpoints if each.name not in replaced] + added
