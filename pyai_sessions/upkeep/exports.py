"""Export: sessions and states as lines of JSON, of one session, of one user or of all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pyai_sessions.documents.envelopes import stored_text
from pyai_sessions.documents.keys import head_key
from pyai_sessions.documents.reading import readable_head
from pyai_sessions.errors import EncryptionError, InvalidDocumentError, InvalidValueError, SessionNotFoundError
from pyai_sessions.model.heads import named_runs
from pyai_sessions.model.session import Session
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.expiry import has_expired
from pyai_sessions.sessions.indexes import batches, session_ids
from pyai_sessions.sessions.loading import load_whole
from pyai_sessions.sessions.pages import keys_beside, pages_there
from pyai_sessions.upkeep import shared_state
from pyai_sessions.upkeep.aside import is_aside, sort_by_session
from pyai_sessions.upkeep.owners import Owner, everything, listed
from pyai_sessions.values.checks import Clock, kind_of


def lines(backend: Backend, session_id: str | None, user_id: str | None, *, scan: bool, clock: Clock) -> Iterator[str]:
    """Iterate over the lines of an export: of one session, of a user, or of all. Holds one session in memory.

    Raises:
        SessionNotFoundError: There is no such session, or it belongs to another user.

    """
    owner = None if user_id is None else Owner(backend, user_id)
    if session_id is not None:
        return _lines_of_session(backend, owner, session_id, clock)
    if owner is not None:
        return _lines_of_user(backend, owner, scan=scan, clock=clock)
    return _lines_of_all(backend, clock)


def contents(
    backend: Backend, clock: Clock, on_invalid: Callable[[InvalidDocumentError], object] | None = None
) -> Iterator[Session | dict[str, Any]]:
    """Iterate over all sessions, as `sessions` does, and then over all states of users and of the application."""
    yield from sessions(backend, clock, on_invalid)
    yield from shared_state.states(backend, clock, on_invalid)


def sessions(
    backend: Backend, clock: Clock, on_invalid: Callable[[InvalidDocumentError], object] | None = None
) -> Iterator[Session]:
    """Iterate over all sessions of a storage, with all messages and branches.

    Holds one session and 100 heads in memory.

    Raises:
        InvalidDocumentError: A session cannot be read. With *on_invalid*, that is called with the error, and the next
            session follows. An EncryptionError is raised all the same: with a wrong key no session could be read.

    """
    for session_id, value in _living(backend, clock):
        try:
            session = load_whole(backend, session_id, clock, value)
        except InvalidDocumentError as err:  # noqa: PERF203 (one damaged session must not cost the others)
            if on_invalid is None or isinstance(err, EncryptionError):
                raise
            on_invalid(err)
        else:
            if session is not None:
                yield session


def _living(backend: Backend, clock: Clock) -> Iterator[tuple[str, object]]:
    """Iterate over all sessions that have not expired, and their heads. They are read, and asked for, 100 at a time."""
    for batch in batches(session_ids(backend.storage)):
        heads = backend.heads(dict.fromkeys(batch)).items()
        # Not when the caller comes to one of them: others may have prolonged its life by then.
        yield from [each for each in heads if not has_expired(each[1], each[0], clock)]


def _lines_of_session(backend: Backend, owner: Owner | None, session_id: str, clock: Clock) -> Iterator[str]:
    exported: dict[str, bool | None] = {}
    value = backend.head(session_id)
    if not has_expired(value, session_id, clock):
        yield from _session(backend, owner, session_id, value, exported, clock=clock)
    if not exported:
        raise SessionNotFoundError(session_id)
    aside: Iterable[str] = [key for key in keys_beside(backend.storage, [session_id]) if is_aside(key)]
    if owner is not None:
        aside = sort_by_session(backend.storage, owner, aside, exported)[0].get(session_id, ())
    yield from _documents(backend, aside)


def _lines_of_user(backend: Backend, owner: Owner, *, scan: bool, clock: Clock) -> Iterator[str]:
    if scan:
        backend.storage.keys("session/")  # raises here, before a line is written, if the storage cannot list its keys
    exported: dict[str, bool | None] = {}
    for batch in batches(listed(backend, owner.user_id)):
        for session_id in batch:
            yield from _session(backend, owner, session_id, backend.head(session_id), exported, clock=clock)
    aside: Iterable[str] = (key for key in keys_beside(backend.storage, list(exported)) if is_aside(key))
    if scan:
        found = everything(backend, owner)
        for session_id in found.heads.keys() - exported.keys():
            yield from _session(backend, owner, session_id, backend.head(session_id), exported, clock=clock)
        aside, exported = found.aside, found.is_owners | exported
    of_user, _ = sort_by_session(backend.storage, owner, aside, exported)
    for keys in of_user.values():
        yield from _documents(backend, keys)
    yield from shared_state.lines_of(backend, owner.user_id, scan=scan)


def _lines_of_all(backend: Backend, clock: Clock) -> Iterator[str]:
    for session_id, value in _living(backend, clock):
        yield from _session(backend, None, session_id, value, {}, clock=clock)
    yield from _documents(backend, (key for key in backend.storage.keys("unreadable/") if is_aside(key)))
    yield from shared_state.lines_of(backend, None, scan=True)


def line_of(session: Session) -> str:
    """Return a session as a line of JSON, without its revision, which means something to its own store only."""
    given = session.to_dict()
    given.pop("revision", None)
    return json.dumps(given) + "\n"


def check_file(file: Any) -> Any:
    """Return *file* if it is open for writing text."""
    try:
        file.write("")
    except (AttributeError, TypeError) as err:
        problem = f"is {kind_of(file)}; it is open for text: open(path, 'w', encoding='utf-8')"
        raise InvalidValueError("file", problem) from err
    return file


def _session(
    backend: Backend,
    owner: Owner | None,
    session_id: str,
    value: object | None,
    exported: dict[str, bool | None],
    *,
    clock: Clock,
) -> Iterator[str]:
    """Iterate over the line of a session, or, if it is damaged, a line for each of its documents.

    *value* is its head. A session of another user has no line. The ids of the others are added to *exported*.
    """
    if value is None or (owner is not None and owner.has(value, session_id) is False):
        return
    try:
        session = load_whole(backend, session_id, clock, value)
    except InvalidDocumentError:
        exported[session_id] = True
        keys = {key for key in keys_beside(backend.storage, [session_id]) if key.startswith("messages/")}
        stored = readable_head(value, session_id)
        keys.update(pages_there(backend.storage, named_runs(stored.head)) if stored else ())
        yield from _documents(backend, [head_key(session_id), *sorted(keys)])
        return
    if session is not None and (owner is None or session.user_id == owner.user_id):
        exported[session_id] = True
        yield line_of(session)


def _documents(backend: Backend, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        text = stored_text(backend.storage.read([key]).get(key))
        document = None if text is None else text.decode("utf-8", "backslashreplace")
        yield json.dumps({"key": key, "document": document}) + "\n"
