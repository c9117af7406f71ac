"""All that is held of one user, as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from pyai_sessions.documents.envelopes import text_of
from pyai_sessions.documents.keys import head_key
from pyai_sessions.documents.reading import read_head
from pyai_sessions.errors import InvalidDocumentError, InvalidValueError
from pyai_sessions.model.heads import named_runs
from pyai_sessions.model.session import Session
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.indexes import batches
from pyai_sessions.sessions.loading import load_whole
from pyai_sessions.sessions.pages import keys_beside, pages_there
from pyai_sessions.upkeep import shared_state
from pyai_sessions.upkeep.holdings import Owner, everything, is_aside, left_aside, listed, raw
from pyai_sessions.values.checks import Clock, kind_of


def lines(backend: Backend, user_id: str, *, scan: bool, clock: Clock) -> Iterator[str]:
    """Iterate over lines of JSON: a user's sessions, and documents of his that cannot be read. Holds one at a time."""
    if scan:
        backend.storage.keys("session/")  # raises where a storage cannot list them: before anything is written
    owner = Owner(backend, user_id)
    whose: dict[str, bool | None] = {}
    for batch in batches(listed(backend, user_id)):
        for session_id in batch:
            yield from _session(backend, owner, session_id, whose, clock=clock)
    aside: Iterable[str] = (key for key in keys_beside(backend.storage, list(whose)) if is_aside(key))
    if scan:
        found = everything(backend, owner)
        for session_id in found.heads.keys() - whose.keys():
            yield from _session(backend, owner, session_id, whose, clock=clock)
        aside, whose = found.aside, found.whose | whose
    theirs, _ = left_aside(backend, owner, aside, whose)
    for keys in theirs.values():
        yield from _documents(backend, keys)
    yield from shared_state.lines_of(backend, user_id, scan=scan)


def line_of(session: Session) -> str:
    """Return a session as a line; without its revision, which says nothing outside of its store."""
    given = session.to_dict()
    given.pop("revision", None)
    return json.dumps(given) + "\n"


def check_file(file: Any) -> Any:
    """Return *file* if text can be written to it."""
    try:
        file.write("")
    except (AttributeError, TypeError) as err:
        problem = f"is {kind_of(file)}; it is open for text: open(path, 'w', encoding='utf-8')"
        raise InvalidValueError("file", problem) from err
    return file


def _session(
    backend: Backend, owner: Owner, session_id: str, whose: dict[str, bool | None], *, clock: Clock
) -> Iterator[str]:
    """Return the line of a session; of a damaged one, those of its documents."""
    value = backend.head(session_id)
    if value is None or owner.has(value, session_id) is False:
        return
    whose[session_id] = True
    try:
        session = load_whole(backend, session_id, clock)
    except InvalidDocumentError:
        keys = {key for key in keys_beside(backend.storage, [session_id]) if key.startswith("messages/")}
        with suppress(InvalidDocumentError):
            keys.update(pages_there(backend.storage, named_runs(read_head(value, session_id).head)))
        yield from _documents(backend, [head_key(session_id), *sorted(keys)])
        return
    if session is not None and session.user_id == owner.user_id:
        yield line_of(session)


def _documents(backend: Backend, keys: list[str]) -> Iterator[str]:
    for key in keys:
        text = text_of(raw(backend.storage.read([key]).get(key)))
        document = None if text is None else text.decode("utf-8", "backslashreplace")
        yield json.dumps({"key": key, "document": document}) + "\n"
