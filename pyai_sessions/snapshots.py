"""What a custom store gave: the base of a merge, where another writer saved the session meanwhile.

Our own stores keep that in the history's origin, with the place of each page; of a session that another store gave, a
copy of what it was is enough.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from pyai_sessions.checks import Clock
from pyai_sessions.documents import microseconds
from pyai_sessions.history import History, Origin
from pyai_sessions.merge import merge
from pyai_sessions.messages import Message
from pyai_sessions.models import Session, assign, common, history_of, session_of, values_of
from pyai_sessions.values import write


class Snapshot(NamedTuple):
    """A session as a store gave it."""

    origin: Origin
    log: list[Message]


def known(session: Session, clock: Clock) -> Session:
    """Return a session that a store gave, or was given, as what is stored now."""
    history = history_of(session)
    history.clock = clock
    log = list(history.log)
    origin = Origin(
        stamp="",
        revision=session.revision or "",
        incarnation=session.created_at.isoformat(),
        edition="",
        user_id=session.user_id,
        status=session.status.value,
        activity=microseconds(session.updated_at),
        state=write(session.state),
        metadata=write(session.metadata),
        checkpoints=write([each.to_dict() for each in session.checkpoints]),
        runs=(),
        dropped=(),
        message_count=len(log),
        last_message=log[-1] if log else None,
        branches=tuple(history.branches),
        summary=write(None if session.summary is None else session.summary.to_dict()),
    )
    history.given = Snapshot(origin, log)
    return session


def touch_if_changed(session: Session) -> None:
    """Count a session as active now if it was changed directly: ``session.state["x"] = …``."""
    given = history_of(session).given
    if given is None:
        return
    base = given.origin
    changed = (session.user_id, write(session.state), write(session.metadata)) != (
        base.user_id,
        base.state,
        base.metadata,
    )
    if changed and microseconds(session.updated_at) == base.activity:
        session.touch()


def merged(session: Session, theirs: Session) -> None:
    """Merge what is stored now into a stale copy, as `merge` does."""
    history, their = history_of(session), history_of(theirs)
    given, new = history.given, their.given
    if given is None or new is None:
        msg = "the session was not given by a store"
        raise ValueError(msg)
    kept = common(given.log, history.log)
    mine = replace(
        history,
        origin=given.origin,
        incarnation=given.origin.incarnation,
        rewritten_from=kept if kept < len(given.log) else None,
    )
    appended_only = common(given.log, their.log) == len(given.log)
    origin = new.origin if appended_only else new.origin._replace(edition="rewritten")
    stored = replace(their, origin=origin, incarnation=origin.incarnation)
    both = merge(session_of(values_of(session), mine), session_of(values_of(theirs), stored))
    made = History(given=new, revision=theirs.revision, clock=history.clock)
    made.log, made.branches = history_of(both).log, history_of(both).branches
    assign(session, values_of(both), made)
