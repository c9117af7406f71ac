"""Documents that cannot be read and were set aside: moved, unchanged, to keys under ``unreadable/``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from pyai_sessions.documents.envelopes import start_of, stored_text
from pyai_sessions.documents.keys import aside_key, head_key, session_beside, written_key
from pyai_sessions.storage.protocol import Change, Storage
from pyai_sessions.upkeep.owners import Owner


def is_aside(key: str) -> bool:
    """Return whether the document under *key* is one of a session, and was set aside."""
    return key.startswith("unreadable/") and session_beside(key) is not None


def set_aside(storage: Storage, keys: Sequence[str]) -> bool:
    """Move documents of one place, unchanged, to keys under ``unreadable/``.

    Return False if another writer changed one of them meanwhile.
    """
    found = storage.read(keys)
    if not found:
        return True
    change = Change(
        expect=[(key, start_of(value)) for key, value in found.items()],
        put=list(copies_aside(found).items()),
        drop=list(found),
    )
    # A client that sends the change twice is refused the second time: the documents are gone by then.
    return storage.write([change])[0] or not storage.read(list(found))


def copies_aside(documents: Mapping[str, object]) -> dict[str, object]:
    """Return documents by the keys under which they are set aside.

    The keys hold a digest of the documents. A repair that was interrupted and is repeated therefore writes the same
    keys again, and nothing is set aside twice.
    """
    digest = hashlib.sha256()
    for key, value in documents.items():
        text = stored_text(value)
        digest.update(repr((key, value if text is None else text)).encode("utf-8", "backslashreplace"))
    return {aside_key(key, digest.hexdigest()[:16]): value for key, value in documents.items()}


def sort_by_session(
    storage: Storage, owner: Owner, keys: Iterable[str], is_owners: Mapping[str, bool | None]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return which documents that were set aside are *owner*'s, by session, and those of an unknown user.

    Documents that were set aside in one step belong to the user whom the head among them names. If there is no head
    among them, they belong to the user who has the session now (*is_owners*). If there is no such session, they belong
    to the user whom all heads of that id that were set aside name.
    """
    groups: dict[str, dict[str, list[str]]] = {}
    for key in keys:
        session_id = session_beside(key)
        if session_id is not None:
            groups.setdefault(session_id, {}).setdefault(_step_of(key), []).append(key)
    owners: dict[str, list[str]] = {}
    unknown: list[str] = []
    for session_id, steps in groups.items():
        heads = [key for group in steps.values() for key in group if written_key(key) == head_key(session_id)]
        found = storage.read(heads) if heads else {}
        named = {_step_of(key): owner.has(value, session_id) for key, value in found.items()}
        now = is_owners.get(session_id)
        if now is None and len(set(named.values())) == 1:
            now = next(iter(named.values()))
        for step, group in steps.items():
            is_owners_group = named.get(step, now)
            if is_owners_group is None:
                unknown += group
            elif is_owners_group:
                owners.setdefault(session_id, []).extend(group)
    return owners, unknown


def _step_of(key: str) -> str:
    """Return the token in a key under ``unreadable/``: documents that were set aside in one step share it."""
    return key.split("/")[2]
