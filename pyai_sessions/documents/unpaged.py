"""Sessions without pages: the head of one has all messages, and tokens that follow from what it says.

A store of four methods keeps none of our tokens. So whoever makes a head of the same session gives it the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import UNSET

from pyai_sessions.model.heads import Head
from pyai_sessions.values.json import read


def told_by_content(head: Head, unknown: Mapping[str, Any], *, new: bool) -> Head:
    """Return a head whose revision and edition, and if it is *new* its incarnation, follow from what it says."""
    edition = edition_of(bytes(head.messages))
    says = [
        edition,
        *[_value(getattr(head, name)) for name in ("metadata", "state", "checkpoints", "summary")],
        [head.session_id, head.user_id, head.status.value, head.created_at.isoformat(), head.updated_at.isoformat()],
        [_time(head.active_at), head.title or None],
        [msgspec.to_builtins(each) for each in head.branches or ()],
        head.parent or None,
        dict(unknown),
    ]
    incarnation = _digest(head.created_at.isoformat()) if new else head.incarnation
    return msgspec.structs.replace(
        head, revision=_digest(says), edition=edition, incarnation=incarnation, sealed=(), dropped=()
    )


def _time(value: Any) -> str | None:
    return value.isoformat() if value else None


def edition_of(messages: bytes) -> str:
    """Return the edition of a head that has these messages, a JSON array."""
    return _digest(read(messages))


def _value(field: Any) -> Any:
    return None if field is UNSET else read(bytes(field))


def _digest(value: object) -> str:
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).hexdigest()
