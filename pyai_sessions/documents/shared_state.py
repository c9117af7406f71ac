"""The document of the state of a user or of the application: how it is read, changed and written.

    state/user:<user>, state/app:
        {"format":1,"revision":…,"former":[…],"user_id":…,"updated_at":…,"expires_at":…,"state":{…}}

*former* holds the revisions of the 8 writes before. A writer whose reply was lost finds its own there. It then knows
that its change was stored, even if others have changed the state since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from pyai_sessions.documents.reading import document_of, refuse_encrypted, unreadable
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import FORMAT
from pyai_sessions.values.checks import Clock, check_id, check_time
from pyai_sessions.values.json import convert, decoded, is_mapping, read, write

_FORMER = 8

OTHERS = "it is the state of another"


class _Document(msgspec.Struct, frozen=True):
    format: int
    revision: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
    state: dict[str, Any]
    former: Sequence[str] = ()
    user_id: str | None = None
    updated_at: Annotated[datetime, msgspec.Meta(tz=True)] | UnsetType = UNSET
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | UnsetType = UNSET


class StoredState(msgspec.Struct, frozen=True):
    """The state of a user, or of the application (None), as it is stored. If nothing is stored, the revision is ""."""

    user_id: str | None
    revision: str
    state: dict[str, Any]
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    former: Sequence[str] = ()
    unknown: Mapping[str, Any] = {}

    def is_over(self, clock: Clock) -> bool:
        """Return whether the state has expired."""
        return self.expires_at is not None and self.expires_at <= clock()

    def followed_by(
        self, revision: str, state: dict[str, Any], updated_at: datetime, expires_at: datetime | None
    ) -> StoredState:
        """Return the state that the next write stores."""
        former = [*self.former, self.revision][-_FORMER:] if self.revision else []
        return StoredState(self.user_id, revision, state, updated_at, expires_at, former, self.unknown)

    def written(self) -> bytes:
        """Return the text of the document, which begins with `start_of_state` of its revision."""
        return write(
            {
                "format": FORMAT,
                "revision": self.revision,
                "former": list(self.former),
                "user_id": self.user_id,
                **({} if self.updated_at is None else {"updated_at": self.updated_at}),
                **({} if self.expires_at is None else {"expires_at": self.expires_at}),
                "state": self.state,
                **self.unknown,
            }
        )


def start_of_state(revision: str) -> str:
    """Return the beginning of the document of a revision."""
    return f'{{"format":{FORMAT},"revision":"{revision}"'


def read_state(value: object, key: str) -> StoredState:
    """Return the state that a storage holds as *value* under *key*.

    Raises:
        InvalidDocumentError: It is not a document of state that this release can read.

    """
    document = document_of(value, key, None)
    try:
        return _read_state(read(decoded(document)))
    except ValueError as err:
        raise unreadable(key, None, value, err) from err


def _read_state(found: object) -> StoredState:
    if not is_mapping(found) or type(found.get("format")) is not int:
        msg = 'it is not a JSON object with a whole number as "format"'
        raise ValueError(msg)
    refuse_encrypted(found)
    if found["format"] != FORMAT:
        msg = f"it has format {found['format']}; this release reads format {FORMAT}"
        raise ValueError(msg)
    names = _Document.__struct_fields__
    known = convert({name: found[name] for name in names if name in found}, _Document)
    user_id = None if known.user_id is None else check_id(known.user_id, "user_id")
    updated_at = check_time(known.updated_at, "updated_at") if known.updated_at else None
    expires_at = check_time(known.expires_at, "expires_at") if known.expires_at else None
    unknown = {name: each for name, each in found.items() if name not in names}
    return StoredState(user_id, known.revision, known.state, updated_at, expires_at, known.former, unknown)


def read_state_of(value: object, key: str, user_id: str | None) -> StoredState:
    """Return the state of a user, or of the application (None), as `read_state` does.

    Raises:
        InvalidDocumentError: It cannot be read, or belongs to another user.

    """
    stored = read_state(value, key)
    if stored.user_id != user_id:
        raise InvalidDocumentError(key, None, value, OTHERS)
    return stored
