"""Importing: many sessions of any store as new ones, a batch in each transaction or trip."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.writing import Draft, compose
from pyai_sessions.errors import InvalidDocumentError, InvalidValueError
from pyai_sessions.model.fields import check_stored
from pyai_sessions.model.history import History
from pyai_sessions.model.session import STORED, Session, history_of, session_of, values_of
from pyai_sessions.model.unrepeated import repeats, unrepeated
from pyai_sessions.sessions.backend import Backend, Progress
from pyai_sessions.sessions.forks import purge
from pyai_sessions.sessions.loading import Attempts, load_whole
from pyai_sessions.upkeep import shared_state
from pyai_sessions.values.checks import kind_of
from pyai_sessions.values.json import is_mapping

_TOGETHER = 500
_TOGETHER_BYTES = 4 * 1024 * 1024
"""Sessions, or bytes of their documents, that are committed together."""

_NAMED = 1000
"""Ids that a report names."""


@dataclass
class Imported:
    """What `import_sessions` did with the sessions that it was given. Nothing stored was overwritten.

    Attributes:
        inserted: How many were new, and are stored now.
        identical: How many were stored already, with the same content.
        different: How many have an id under which other content is stored, or content that cannot be read. What is
            stored stayed; the given session was not stored.
        different_ids: The ids of these, in order: the first 1,000.
        renamed: How many messages of the inserted sessions have a new id, because an earlier message of the session had
            theirs: ``"m1"`` became ``"m1~2"``.
        states: How many states of users, or of the application, are stored as they were given.
        different_states: The users (None: the application) of whom another state is stored, which stayed: the first
            1,000.

    """

    inserted: int = 0
    identical: int = 0
    different: int = 0
    different_ids: list[str] = field(default_factory=list[str])
    renamed: int = 0
    states: int = 0
    different_states: list[str | None] = field(default_factory=list[str | None])

    def add_inserted(self, new: New) -> None:
        """Count a session that was stored."""
        self.inserted += 1
        self.renamed += new.renamed

    def add_taken(self, new: New, stored: Session | None) -> None:
        """Count a session whose id is taken by *stored*; None: by one that cannot be read."""
        if stored is not None and new.is_same(stored):
            self.identical += 1
            return
        self.different += 1
        if len(self.different_ids) < _NAMED:
            self.different_ids.append(new.session.session_id)


class New(NamedTuple):
    """A session to import.

    Attributes:
        session: The session, of no store yet.
        draft: The documents that store it.
        unloaded: The ids of the branches that the given session names, but whose messages it does not have.
        renamed: How many of its messages have a new id.
        given: What was given for it, if that was a mapping.

    """

    session: Session
    draft: Draft
    unloaded: frozenset[str]
    renamed: int
    given: Mapping[str, Any] | None = None

    def is_same(self, stored: Session) -> bool:
        """Return whether a stored session has the same content, branches included as far as both are loaded."""
        return self._content(self.session) == self._content(stored)

    def _content(self, session: Session) -> str:
        """Return a session's content as text; without ids and times that were not given, but made up."""
        found, _ = unrepeated(session.to_dict())
        found.pop("revision", None)
        found["left"] = [each for each in found.get("left", ()) if each["branch_id"] not in self.unloaded]
        if self.given is not None:
            for name in {"created_at", "updated_at"} - self.given.keys():
                del found[name]
            for message, given in zip(found["messages"], self.given.get("messages", ()), strict=False):
                for name in {"message_id", "timestamp"} - (given.keys() if is_mapping(given) else set[str]()):
                    del message[name]
        return json.dumps(found, sort_keys=True)


class Importer(NamedTuple):
    """Stores new sessions in a backend, on a store's terms."""

    backend: Backend
    terms: Terms

    def store(self, sessions: Iterable[Session | Mapping[str, Any]], progress: Progress | None = None) -> Imported:
        """Store new sessions, and say what became of each. Holds one batch."""
        report = Imported()
        done = size = 0
        batch: list[New] = []
        for new in imported(sessions, self.terms, lambda line: self._take_state(line, report)):
            batch.append(new)
            size += len(new.draft.head) + sum(map(len, new.draft.pages.values()))
            if len(batch) == _TOGETHER or size > _TOGETHER_BYTES:
                self._commit(batch, report)
                done += len(batch)
                batch, size = [], 0
                if progress:
                    progress(done)
        if batch:
            self._commit(batch, report)
            if progress:
                progress(done + len(batch))
        return report

    def _take_state(self, line: Mapping[str, Any], report: Imported) -> None:
        """Store the state of a user, or of the application, that an export has for a line."""
        user_id, stored = shared_state.store_line(self.backend, self.terms, line)
        report.states += stored
        if not stored and len(report.different_states) < _NAMED:
            report.different_states.append(user_id)

    def _commit(self, batch: list[New], report: Imported) -> None:
        """Store a batch; look at what has the ids that are taken."""
        refused: list[New] = []
        for new, stored in zip(batch, self.backend.commit_many([each.draft for each in batch]), strict=True):
            if stored:
                report.add_inserted(new)
            else:
                refused.append(new)
        heads = self.backend.heads(each.session.session_id for each in refused)
        for new in refused:
            self._compare(new, heads.get(new.session.session_id), report)

    def _compare(self, new: New, value: object | None, report: Imported) -> None:
        """Count a session whose id was taken by the session of a head; store it where that has gone, or expired."""
        backend, session_id, clock = self.backend, new.session.session_id, self.terms.clock
        for _ in Attempts(backend, session_id):
            if value is None or purge(backend, session_id, value, clock):
                if backend.commit(new.draft):
                    report.add_inserted(new)
                    return
            else:
                try:
                    stored = load_whole(backend, session_id, clock, value)
                except InvalidDocumentError:
                    report.add_taken(new, None)
                    return
                if stored is not None:
                    report.add_taken(new, stored)
                    return
            value = backend.head(session_id)


def imported(
    sessions: Iterable[Session | Mapping[str, Any]], terms: Terms, take_state: Callable[[Mapping[str, Any]], object]
) -> Iterator[New]:
    """Iterate over sessions of any store, or what `Session.to_dict` returned, as new ones.

    Raises:
        InvalidValueError: One of them cannot be stored, or is loaded only in part.

    """
    for n, given in enumerate(sessions):
        if not is_mapping(given) and not isinstance(given, Session):
            problem = f"is {kind_of(given)}; it is a Session, or a dict: json.loads(line)"
            raise InvalidValueError(f"sessions[{n}]", problem)
        try:
            if shared_state.is_line(given):
                take_state(given)
                continue
            new = _new(given, terms)
        except InvalidValueError as err:
            raise err.within(f"sessions[{n}]") from err
        yield new


def _new(given: Session | Mapping[str, Any], terms: Terms) -> New:
    renamed = 0
    if isinstance(given, Session):
        session = given
        check_stored(session, STORED)
    else:
        if is_mapping(given) and "session_id" not in given:
            raise InvalidValueError("session_id", "is missing; with a new one at each try it would be stored twice")
        if is_mapping(given):
            given, renamed = unrepeated(given)
        session = Session.from_dict(given)
    history = history_of(session)
    if len(history.log) < session.message_count:
        problem = "are loaded only in part; load all of them with manager.load_history(session)"
        raise InvalidValueError("messages", problem)
    branches = [each for each in history.branches if each.left and not each.left.unloaded]
    unloaded = frozenset(each.branch_id for each in history.branches if each not in branches)
    log, active_at = list(history.log), session.active_at
    if any(repeats(each.left.log) for each in branches if each.left) or repeats(log):  # as other tools may write it
        whole = session_of(values_of(session), History(log=log, branches=branches, active_at=active_at))
        made, renamed = unrepeated(whole.to_dict())
        return _new(made, terms)._replace(unloaded=unloaded, renamed=renamed)
    left = [each._replace(left=History(log=each.left.log)) for each in branches if each.left]
    new = session_of(values_of(session), History(log=log, clock=terms.clock, branches=left, active_at=active_at))
    return New(new, compose(new, terms), unloaded, renamed, given if is_mapping(given) else None)
