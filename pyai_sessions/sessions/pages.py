"""What lies beside the heads of sessions: which of it there is."""

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
"""Pages that are taken to be there because a document says so: more are looked for."""


def keys_beside(storage: Storage, session_ids: Iterable[str]) -> Iterator[str]:
    """Iterate over the keys of what lies beside sessions' heads: pages, references to these, what was set aside.

    Goes through all keys where the storage cannot tell.
    """
    if not storage.ordered:
        wanted = set(session_ids)
        yield from (key for key in storage.keys("") if session_beside(key) in wanted)
        return
    for each in session_ids:
        for prefix in (page_prefix(each), reference_prefix(each), aside_prefix(each)):
            yield from (key for key in storage.keys(prefix) if session_beside(key) == each)


def pages_there(storage: Storage, runs: Sequence[Run]) -> list[str]:
    """Return the keys of *runs*, in order; where these claim more than a few pages, only those that the storage has.

    A head or a reference of a hundred bytes can claim a million pages. What is done for each page costs what is stored,
    not what is claimed.
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
