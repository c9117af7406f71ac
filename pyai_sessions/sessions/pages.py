"""Documents beside the heads of sessions: finding the keys of pages, references and documents that were set aside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pyai_sessions.documents.keys import (
    aside_prefix,
    encode_id,
    page_keys,
    page_prefix,
    reference_prefix,
    session_beside,
)
from pyai_sessions.model.heads import Run
from pyai_sessions.storage.protocol import Storage

_CLAIMED = 1000
"""Pages up to which the claim of a document is trusted. If it claims more, the stored keys are listed."""


def keys_beside(storage: Storage, session_ids: Iterable[str]) -> Iterator[str]:
    """Iterate over the keys of sessions' pages, references to these, and documents that were set aside.

    Reads all keys if the storage is not `ordered`.
    """
    if not storage.ordered:
        wanted = set(session_ids)
        yield from (key for key in storage.keys("") if session_beside(key) in wanted)
        return
    for each in session_ids:
        for prefix in (page_prefix(each), reference_prefix(each), aside_prefix(each)):
            yield from (key for key in storage.keys(prefix) if session_beside(key) == each)


def pages_there(storage: Storage, runs: Sequence[Run]) -> list[str]:
    """Return the keys of *runs*, in order. If these claim more than 1,000 pages, only stored ones are returned.

    A forged head of a hundred bytes can claim a million pages: the work must depend on what is stored.
    """
    if sum([run.pages for run in runs]) <= _CLAIMED:
        return page_keys(runs)
    there: dict[tuple[str, str], list[int]] = {}
    for key in keys_beside(storage, {run.owner for run in runs}):
        kind, owner, *rest = key.split("/")
        if kind == "messages":
            there.setdefault((owner, rest[0]), []).append(int(rest[1]))
    return [
        f"{prefix}{number}"
        for run in runs
        for prefix in [f"{page_prefix(run.owner)}{run.generation}/"]
        for number in sorted(there.get((encode_id(run.owner), run.generation), ()))
        if run.start <= number < run.end
    ]
