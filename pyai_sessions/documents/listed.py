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


class Hashed(str):
    """A user by the hash of his id, as lists of encrypted storages name him."""

    __slots__ = ()


def user_of(user_id: str) -> str:
    """Return a user as he stands in lists."""
    return HASHED + user_id if isinstance(user_id, Hashed) else encode_id(user_id)


def list_of(status: SessionStatus, user_id: str | None) -> str:
    """Return the name of the list of a user's sessions of a status, or of all of that status (None)."""
    return status.value if user_id is None else f"{USERS}{user_of(user_id)}/{status.value}"


def member_of(entry: Entry) -> str:
    """Return the member of the list of what expires that an entry would be."""
    user = "" if entry.user_id is None else user_of(entry.user_id)
    return f"{encode_id(entry.session_id)}/{entry.status.value}/{user}"


STATUSES = {each.value: each for each in SessionStatus}


def index_of(name: str) -> tuple[SessionStatus, str | None] | None:
    """Return the status and the user of the list of that name; None where it is another list."""
    status = STATUSES.get(name)
    if status is not None:
        return status, None
    user, _, last = name.removeprefix(USERS).rpartition("/")
    status = STATUSES.get(last)
    user_id = Hashed(user[1:]) if user.startswith(HASHED) else decode_id(user)
    return None if status is None or user_id is None or not name.startswith(USERS) else (status, user_id)


def positions(entry: Entry) -> dict[Place, int]:
    """Return the lists and members by which a session is listed, with their scores."""
    listed = lists_of(entry, hashed=isinstance(entry.user_id, Hashed))
    return {(name, member): score for name, member, score in listed}


def listings_of(old: Entry | None, new: Entry | None) -> Sequence[Listing]:
    """Return what changes in the lists where a session was listed as *old*, and is to be listed as *new*."""
    if old is None or new is None or not old.is_beside(new) or old.expires != new.expires:
        before, after = positions(old) if old else {}, positions(new) if new else {}
        moved = [Listing(*place, before.get(place), score) for place, score in after.items()]
        return [*moved, *(Listing(*place, score, None) for place, score in before.items() if place not in after)]
    was = exact(old.activity)
    return [Listing(name, member, score if name == EXPIRY else was, score) for name, member, score in lists_of(new)]
