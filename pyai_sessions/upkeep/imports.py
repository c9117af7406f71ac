"""Import: sessions and states of any store, stored many at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.reading import read_head
from pyai_sessions.documents.shared_state import StoredState
from pyai_sessions.documents.writing import Draft, compose, replacing
from pyai_sessions.errors import (
    InvalidDocumentError,
    InvalidValueError,
    SessionError,
    SessionExistsError,
    StateConflictError,
    UnsupportedOperationError,
)
from pyai_sessions.model.fields import check_stored
from pyai_sessions.model.heads import StoredHead
from pyai_sessions.model.history import History
from pyai_sessions.model.session import STORED, Session, history_of, session_of, values_of
from pyai_sessions.model.unrepeated import repeats, unrepeated
from pyai_sessions.sessions.attempts import Attempts
from pyai_sessions.sessions.backend import Backend, Progress
from pyai_sessions.sessions.forks import free_shared
from pyai_sessions.sessions.loading import load_whole
from pyai_sessions.sessions.removing import purge
from pyai_sessions.sessions.shared_state import SharedStates
from pyai_sessions.upkeep import shared_state
from pyai_sessions.values.checks import kind_of, shown
from pyai_sessions.values.json import Default, converting, is_mapping, plain, read

_TOGETHER = 500
_TOGETHER_BYTES = 4 * 1024 * 1024
"""Sessions, and bytes of their documents, that are committed together at most."""

_NAMED = 1000
"""Ids and problems that a report names at most."""

OnTaken = Literal["skip", "error", "overwrite", "newer"]
"""What happens if other content is stored under a session's id: the session is left out, or SessionExistsError is
raised, or the session replaces what is stored, or it does so unless that was changed later."""


@dataclass
class Imported:
    """The report of `import_sessions` or `copy_sessions`: how many sessions were new, stored already, and so on.

    Attributes:
        inserted: Sessions that were new and are stored now.
        identical: Sessions that were stored already with the same content.
        overwritten: Sessions that replaced a stored session with other content.
        different: Sessions that were not stored, because a session with other content is stored and was kept, or the
            stored one cannot be read.
        different_ids: The ids of these, in order: the first 1,000.
        renamed: Messages that got a new id, because an earlier message of their session has the same: ``"m1"`` became
            ``"m1~2"``.
        states: States of users or of the application that are stored as they were given.
        different_states: The users (None: the application) whose state was not stored, because another state is stored
            and was kept: the first 1,000.
        invalid: How many were left out because of ``skip_invalid=True``.
        problems: What is wrong with each of these, with its line or number in the list, and its id: the first 1,000.

    """

    inserted: int = 0
    identical: int = 0
    overwritten: int = 0
    different: int = 0
    different_ids: list[str] = field(default_factory=list[str])
    renamed: int = 0
    states: int = 0
    different_states: list[str | None] = field(default_factory=list[str | None])
    invalid: int = 0
    problems: list[str] = field(default_factory=list[str])

    def add_different(self, session_id: str) -> None:
        """Count a session that was not stored because the stored one was kept."""
        self.different += 1
        if len(self.different_ids) < _NAMED:
            self.different_ids.append(session_id)

    def add_invalid(self, err: Exception) -> None:
        """Count something that was left out."""
        self.invalid += 1
        if len(self.problems) < _NAMED:
            self.problems.append(str(err))


class New(NamedTuple):
    """A session to import.

    Attributes:
        session: The session, which belongs to no store yet.
        draft: The documents to store.
        unloaded: The ids of branches whose messages the given session did not contain.
        renamed: How many of its messages got a new id.
        given: The mapping that the session was made from, if it was.

    """

    session: Session
    draft: Draft
    unloaded: frozenset[str]
    renamed: int
    given: Mapping[str, Any] | None = None

    def is_same(self, stored: Session) -> bool:
        """Return whether a stored session has the same content, and the same branches, as far as these are known."""
        return self._content(self.session) == self._content(stored)

    def _content(self, session: Session) -> str:
        """Return a session's content as text, without ids and times that were not given but generated."""
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
    """Stores sessions and states.

    Attributes:
        backend: Where they are stored.
        terms: The limits, the clock and the ttl of the store.
        on_conflict: What happens if other content is stored already.
        skip_invalid: Whether invalid sessions and states are left out, instead of raising.
        checked: Whether everything is read back and compared.
        default: Converts what JSON cannot hold, if it is given.

    """

    backend: Backend
    terms: Terms
    on_conflict: OnTaken = "skip"
    skip_invalid: bool = False
    checked: bool = False
    default: Default | None = None

    def store(
        self, sessions: Iterable[object], progress: Progress | None = None, report: Imported | None = None
    ) -> Imported:
        """Store sessions and states, and return the report. Holds one batch in memory.

        If one is invalid, those before it are stored, and then the error is raised.
        """
        report = Imported() if report is None else report
        done = 0
        for batch in _batches(self._read(sessions, report)):
            self._commit(batch, report)
            done += len(batch)
            if progress:
                progress(done)
        return report

    def _read(self, sessions: Iterable[object], report: Imported) -> Iterator[New]:
        """Iterate over the given sessions; store the given states at once."""
        for n, given in enumerate(sessions):
            place = f"line {n + 1}" if isinstance(given, (str, bytes)) else f"sessions[{n}]"
            if isinstance(given, (str, bytes)) and not given.strip():
                continue
            found: object = given
            try:
                if isinstance(given, (str, bytes)):
                    found = _document(given, place)
                elif self.default is not None and is_mapping(given):
                    with converting(self.default):
                        found = plain(given, place)
                new = self._take(found, place, report)
            except (InvalidValueError, UnsupportedOperationError) as err:  # some stores keep no states
                named = _with_id(err, found)
                if not self.skip_invalid:
                    raise named from err
                report.add_invalid(named)
            else:
                if new is not None:
                    yield new

    def _take(self, given: object, place: str, report: Imported) -> New | None:
        """Return a given session as a new one; or store a given state, and return None."""
        if not shared_state.is_state_line(given):
            return _new_at(given, place, self.terms)
        try:
            state = shared_state.read_line(given, self.terms)
            stored = self._store_state(state)
        except InvalidValueError as err:
            raise err.within(place) from err
        report.states += stored
        if not stored and len(report.different_states) < _NAMED:
            report.different_states.append(state.user_id)
        return None

    def _store_state(self, state: StoredState) -> bool:
        """Store a state, unless another one is stored and is kept; return whether it is stored."""
        states = SharedStates(self.backend, self.terms)
        try:
            stored = states.insert(state, lambda other: self._replaces(state, other))
            return stored and (not self.checked or states.holds(state))
        except InvalidDocumentError:  # the stored one
            if self.on_conflict == "error":
                raise
            return False

    def _replaces(self, given: StoredState, stored: StoredState) -> bool:
        """Return whether a given state replaces another one that is stored."""
        if self.on_conflict == "error":
            raise StateConflictError(given.user_id, "", stored.revision)
        is_older = (
            given.updated_at is not None and stored.updated_at is not None and given.updated_at < stored.updated_at
        )
        return self.on_conflict == "overwrite" or (self.on_conflict == "newer" and not is_older)

    def _commit(self, batch: list[New], report: Imported) -> None:
        """Store a batch. Sessions whose ids are taken are compared with the stored ones."""
        done = self.backend.commit_many([each.draft for each in batch])
        heads = self.backend.heads(
            new.session.session_id for new, stored in zip(batch, done, strict=True) if not stored
        )
        for new, stored in zip(batch, done, strict=True):
            count = "inserted" if stored else self._settle(new, heads.get(new.session.session_id))
            if count in ("inserted", "overwritten"):
                report.renamed += new.renamed
                count = count if not self.checked or self._is_stored(new) else "different"
            if count == "different":
                report.add_different(new.session.session_id)
            else:
                setattr(report, count, getattr(report, count) + 1)

    def _settle(self, new: New, value: object | None) -> str:
        """Store a session whose id is taken, if it replaces the stored one, whose head is *value*, or that is gone.

        Return the field of the report that counts it.
        """
        backend, session_id, clock = self.backend, new.session.session_id, self.terms.clock
        for _ in Attempts(backend, session_id):
            if value is None or purge(backend, session_id, value, clock):
                if backend.commit(new.draft):
                    return "inserted"
            else:
                try:
                    head, stored = read_head(value, session_id), load_whole(backend, session_id, clock, value)
                except InvalidDocumentError:
                    if self.on_conflict == "error":
                        raise
                    return "different"
                if stored is not None and new.is_same(stored):
                    return "identical"
                if stored is not None and self._stays(new, stored):
                    return "different"
                if stored is not None and self._overwrite(new, head):
                    return "overwritten"
            value = backend.head(session_id)
        return "different"

    def _stays(self, new: New, stored: Session) -> bool:
        """Return whether a stored session with other content is kept."""
        if self.on_conflict == "error":
            raise SessionExistsError(stored.session_id)
        is_older = new.session.updated_at < stored.updated_at
        return self.on_conflict == "skip" or (self.on_conflict == "newer" and is_older)

    def _overwrite(self, new: New, before: StoredHead) -> bool:
        """Replace the session with the head *before*; return False if another writer changed it meanwhile."""
        draft = replacing(new.draft, before, self.terms)
        done = self.backend.commit(draft)
        if done:
            free_shared(self.backend, before, draft)
        return done

    def _is_stored(self, new: New) -> bool:
        """Return whether a session is stored as it was given."""
        stored = load_whole(self.backend, new.session.session_id, self.terms.clock)
        return stored is not None and new.is_same(stored)


def _batches(sessions: Iterator[New]) -> Iterator[list[New]]:
    """Iterate over batches of sessions to store together, in which each id is different.

    If *sessions* raises an error, it is raised again after the batch before it.
    """
    batch: dict[str, New] = {}
    size = 0
    try:
        for new in sessions:
            if new.session.session_id in batch:
                yield [*batch.values()]
                batch, size = {}, 0
            batch[new.session.session_id] = new
            size += len(new.draft.head) + sum(map(len, new.draft.pages.values()))
            if len(batch) == _TOGETHER or size > _TOGETHER_BYTES:
                yield [*batch.values()]
                batch, size = {}, 0
    except Exception:
        if batch:
            yield [*batch.values()]
        raise
    if batch:
        yield [*batch.values()]


def _document(line: str | bytes, place: str) -> object:
    """Return the JSON of a line.

    Raises:
        InvalidValueError: It is not JSON, or it is a damaged document that `export_sessions` wrote as it was.

    """
    try:
        found = read(line)
    except ValueError as err:
        raise InvalidValueError(place, f"is not JSON, a line of export_sessions: {err}") from err
    if is_mapping(found) and set(found) == {"key", "document"}:
        problem = f"is a damaged document, {found['key']!r}, not a session; skip_invalid=True leaves such lines out"
        raise InvalidValueError(place, problem)
    return found


def _with_id(err: SessionError, given: object) -> SessionError:
    """Return an error about something that was given as one that names the session's id, if it has one."""
    session_id = given.get("session_id") if is_mapping(given) else getattr(given, "session_id", None)
    if isinstance(err, InvalidValueError) and isinstance(session_id, str):
        return InvalidValueError(err.path, f"{err.problem} (session {shown(session_id)})")
    return err


def _new_at(given: object, place: str, terms: Terms) -> New:
    """Return a session, or the result of `Session.to_dict`, as a session to import.

    Raises:
        InvalidValueError: It cannot be stored, or is loaded only in part. The error names its *place*.

    """
    if not is_mapping(given) and not isinstance(given, Session):
        raise InvalidValueError(place, f"is {kind_of(given)}; it is a Session, its to_dict(), or a line of JSON")
    try:
        return _new(given, terms)
    except InvalidValueError as err:
        raise err.within(place) from err


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
