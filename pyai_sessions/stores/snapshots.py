"""What a custom store gave: the base of a merge, where another writer saved the session meanwhile.

Our own stores keep that in the history's origin, with the place of each page; of a session that another store gave, a
copy of what it was is enough.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from msgspec import UNSET, Raw

from pyai_sessions.documents.merge import merge
from pyai_sessions.errors import SessionConflictError
from pyai_sessions.model.branches import common
from pyai_sessions.model.heads import FORMAT, Head, StoredHead, entry_of_head
from pyai_sessions.model.history import History, Origin
from pyai_sessions.model.session import Session, assign, history_of, session_of, values_of
from pyai_sessions.values.checks import Clock
from pyai_sessions.values.json import read, write
from pyai_sessions.values.messages import Message


class Snapshot(NamedTuple):
    """A session as a store gave it."""

    origin: Origin
    log: list[Message]


def known(session: Session, clock: Clock) -> Session:
    """Return a session that a store gave, or was given, as what is stored now."""
    history = history_of(session)
    history.clock, history.given, history.tried = clock, snapshot(session), []
    return session


def snapshot(session: Session) -> Snapshot:
    """Return what a session is now."""
    history = history_of(session)
    log = list(history.log)
    head = Head(
        FORMAT,
        revision=session.revision or "",
        session_id=session.session_id,
        user_id=session.user_id,
        status=session.status,
        updated_at=session.updated_at,
        incarnation=session.created_at.isoformat(),
        summary=UNSET if session.summary is None else Raw(write(session.summary.to_dict())),
        metadata=Raw(write(session.metadata)),
        state=Raw(write(session.state)),
        checkpoints=Raw(write([each.to_dict() for each in session.checkpoints])),
    )
    last = log[-1] if log else None
    origin = Origin(StoredHead(head, "", {}), entry_of_head(head), (), len(log), last, tuple(history.branches))
    return Snapshot(origin, log)


def _find_applied(session: Session, theirs: Session) -> None:
    """Let what a failed save was to store be the base of a merge, where it turns out that it was stored.

    Raises:
        SessionConflictError: That cannot be told, and what was added to the state might be added twice.

    """
    history, their = history_of(session), history_of(theirs)
    given, unsure = history.given, False
    before, now = (read(bytes(each.origin.head.state)) for each in (given, their.given))
    for tried in reversed(history.tried) if history.added_to else ():
        then = read(bytes(tried.origin.head.state))
        if all(then.get(key) == before.get(key) for key in history.added_to):
            continue
        grown = len(tried.log) > len(given.log)
        if (grown and their.find(tried.log[-1].message_id) is not None) or (then == now and tried.log == their.log):
            history.given, history.tried = tried, []
            return
        unsure = unsure or not grown or common(given.log, their.log) < len(given.log)
    if unsure:
        problem = "may have what you added to its state: a save of it failed, others have saved it since"
        raise SessionConflictError(session.session_id, given.origin.head.revision, theirs.revision, problem)


def touch_if_changed(session: Session) -> None:
    """Count a session as active now if it was changed directly: ``session.state["x"] = …``."""
    given = history_of(session).given
    if given is None:
        return
    base = given.origin.head
    changed = (session.user_id, write(session.state), write(session.metadata)) != (
        base.user_id,
        bytes(base.state),
        bytes(base.metadata),
    )
    if changed and session.updated_at == base.updated_at:
        session.touch()


def merged(session: Session, theirs: Session) -> None:
    """Merge what is stored now into a stale copy, as `merge` does."""
    _find_applied(session, theirs)
    history, their = history_of(session), history_of(theirs)
    given, new = history.given, their.given
    if given is None or new is None:
        msg = "the session was not given by a store"
        raise ValueError(msg)
    kept = common(given.log, history.log)
    mine = replace(
        history,
        origin=given.origin,
        incarnation=given.origin.head.incarnation,
        rewritten_from=kept if kept < len(given.log) else None,
    )
    appended_only = common(given.log, their.log) == len(given.log)
    origin = new.origin if appended_only else new.origin.rewritten("rewritten")
    stored = replace(their, origin=origin, incarnation=origin.head.incarnation)
    both = merge(session_of(values_of(session), mine), session_of(values_of(theirs), stored))
    made = History(
        log=history_of(both).log,
        branches=history_of(both).branches,
        given=new,
        revision=theirs.revision,
        clock=history.clock,
        added_to=history.added_to,
    )
    assign(session, values_of(both), made)
