"""How sessions stand in lists: by which names, as which members, and what a save changes in them."""

from __future__ import annotations

from collections.abc import Sequence

from pyai_sessions.documents.envelopes import EXPIRY, HASHED, USERS, exact, lists_of
from pyai_sessions.model.heads import Entry, SessionStatus
from pyai_sessions.storage.names import decode_id, encode_id
from pyai_sessions.storage.protocol import Listed, Listing

Place = tuple[str, str]
"""A list, and a member of it."""


class Names:
    """How lists, and members of them, are called in a storage: here, users stand in them by their ids."""

    def names(self, name: str) -> list[str]:
        """Return by which names a list is stored, the usual one first."""
        return [name]

    def members(self, name: str, member: str) -> list[str]:  # noqa: ARG002 (the name of the list)
        """Return by which names a member of a list is stored, the usual one first."""
        return [member]

    def listed(self, entry: Entry) -> list[Listed]:
        """Return what lists hold of a session, by the names by which they are stored."""
        return [(self.names(name)[0], self.members(name, member)[0], score) for name, member, score in lists_of(entry)]


def list_of(status: SessionStatus, user_id: str | None) -> str:
    """Return the name of the list of a user's sessions of a status, or of all of that status (None)."""
    return status.value if user_id is None else f"{USERS}{encode_id(user_id)}/{status.value}"


STATUSES = {each.value: each for each in SessionStatus}


def session_listed(name: str, member: str) -> str | None:
    """Return the id of the session that a member of a list stands for; None where it is none of ours."""
    if name == EXPIRY:
        session, *rest = member.split("/")
        return decode_id(session) if len(rest) == 2 and rest[0] in STATUSES else None  # noqa: PLR2004 (status, user)
    start, _, status = name.rpartition("/")
    user = start.removeprefix(USERS)
    of_user = start.startswith(USERS) and (user.startswith(HASHED) or decode_id(user) is not None)
    return decode_id(member) if status in STATUSES and (of_user or not start) else None


def listings_of(old: Entry | None, new: Entry | None) -> Sequence[Listing]:
    """Return what changes in the lists where a session was listed as *old*, and is to be listed as *new*."""
    if old is None or new is None or not old.is_beside(new) or old.expires != new.expires:
        before, after = _places(old), _places(new)
        moved = [Listing(*place, before.get(place), score) for place, score in after.items()]
        return [*moved, *(Listing(*place, score, None) for place, score in before.items() if place not in after)]
    was = exact(old.activity)
    return [Listing(name, member, score if name == EXPIRY else was, score) for name, member, score in lists_of(new)]


def _places(entry: Entry | None) -> dict[Place, int]:
    return {} if entry is None else {(name, member): score for name, member, score in lists_of(entry)}
