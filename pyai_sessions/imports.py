"""Importing: many sessions of any store as new ones, a batch in each transaction or trip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pyai_sessions.backends.protocol import Backend, Progress
from pyai_sessions.drafts import Draft, SessionDraft, compose
from pyai_sessions.errors import InvalidValueError
from pyai_sessions.expiry import purge
from pyai_sessions.history import History
from pyai_sessions.models import Session, history_of, session_of, values_of
from pyai_sessions.terms import Terms
from pyai_sessions.values import is_mapping

_TOGETHER = 500
_TOGETHER_BYTES = 4 * 1024 * 1024
"""Sessions, or bytes of their documents, that are committed together."""


def store(
    backend: Backend,
    sessions: Iterable[Session | Mapping[str, Any]],
    terms: Terms,
    timeout: float,
    progress: Progress | None = None,
) -> int:
    """Store new sessions, and return how many were stored: one whose id is taken is left out. Holds one batch."""
    stored = done = size = 0
    drafts: list[Draft] = []
    for _, draft in imported(sessions, terms):
        drafts.append(draft)
        size += len(draft.head) + sum(map(len, draft.pages.values()))
        if len(drafts) == _TOGETHER or size > _TOGETHER_BYTES:
            stored += _commit(backend, drafts, terms, timeout)
            done += len(drafts)
            drafts, size = [], 0
            if progress:
                progress(done)
    if drafts:
        stored += _commit(backend, drafts, terms, timeout)
        if progress:
            progress(done + len(drafts))
    return stored


def _commit(backend: Backend, drafts: list[Draft], terms: Terms, timeout: float) -> int:
    """Store drafts, and those again whose id was taken by a session that has expired."""
    done = backend.commit_many(drafts)
    refused = [draft for draft, stored in zip(drafts, done, strict=True) if not stored]
    values = zip(refused, backend.read_many([each.session_id for each in refused]) if refused else (), strict=True)
    free = [draft for draft, value in values if purge(backend, draft.session_id, value, terms.clock, timeout)]
    return sum(done) + (sum(backend.commit_many(free)) if free else 0)


def imported(sessions: Iterable[Session | Mapping[str, Any]], terms: Terms) -> Iterator[tuple[Session, SessionDraft]]:
    """Iterate over sessions of any store, or what `Session.to_dict` returned, as new ones, each with its draft.

    Raises:
        InvalidValueError: One of them cannot be stored, or is loaded only in part.

    """
    for n, given in enumerate(sessions):
        try:
            if is_mapping(given) and "session_id" not in given:
                raise InvalidValueError("session_id", "is missing; with a new one at each try it would be stored twice")
            session = given if isinstance(given, Session) else Session.from_dict(given)
            log = history_of(session).log
            if len(log) < session.message_count:
                problem = "are loaded only in part; load all of them with manager.load_history(session)"
                raise InvalidValueError("messages", problem)
            branches = [
                each._replace(left=History(log=each.left.log))
                for each in history_of(session).branches
                if each.left and not each.left.unloaded
            ]
            new = session_of(values_of(session), History(log=list(log), clock=terms.clock, branches=branches))
            draft = compose(new, terms)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as err:
            raise InvalidValueError(f"sessions[{n}]", f"cannot be stored: {err}") from err
        yield new, draft
