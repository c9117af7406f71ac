"""The names, members and scores of the lists of sessions, and what a save changes in them.

    list                  member                       score
    <status>              <session>                    time of last activity; all sessions that are active, or archived
    user/<user>/<status>  <session>                    the same, of one user
    expiry                <session>/<status>/<user>    time at which the session expires; <user> is empty without a user
    forks                 <owner>/<fork>/<inc>         time at which the fork expires; only on servers, which remove its
                                                       head, and so leave no other trace of what it shared

Ids are percent-encoded, as in keys. The name of a list in a namespace begins with the prefix of the namespace. An
encrypted store writes a keyed hash in place of the user: it begins with "=", which no encoded id contains.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence

from pyai_sessions.documents.envelopes import read_envelope
from pyai_sessions.documents.keys import session_of_key
from pyai_sessions.documents.reading import read_head
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import Entry, SessionStatus, microseconds
from pyai_sessions.storage.names import decode_id, encode_id, split_namespace
from pyai_sessions.storage.protocol import Listed, Listing
from pyai_sessions.values.checks import check_id, check_time
from pyai_sessions.values.json import is_bytes

EXPIRY = "expiry"
FORKS = "forks"
USERS = "user/"
HASHED = "="
"""The first character of a hashed user in the name of a list."""

STATUSES = {each.value: each for each in SessionStatus}

Place = tuple[str, str]
"""The name of a list, and a member of that list."""


def lists_of(entry: Entry, under: str = "", *, hashed: bool = False) -> list[Listed]:
    """Return the entries that lists should have for a session. *under* is the prefix of the lists' namespace.

    *hashed*: ``entry.user_id`` is the hash of a user id.
    """
    name, status, activity = encode_id(entry.session_id), str.__str__(entry.status), exact(entry.activity)
    user = "" if entry.user_id is None else HASHED + entry.user_id if hashed else encode_id(entry.user_id)
    found = [(under + status, name, activity)]
    if user:
        found.append((f"{under}{USERS}{user}/{status}", name, activity))
    if entry.expires is not None:
        found.append((under + EXPIRY, f"{name}/{status}/{user}", exact(entry.expires)))
    return found


_EXACT = 2**53


def exact(time: int) -> int:
    """Return a time as a score that every storage can keep: unchanged from 1684 to 2255, else rounded to a float."""
    return time if -_EXACT <= time <= _EXACT else int(float(time))


class Names:
    """Translates the names and members of lists to those that a storage uses. Here they are the same."""

    def names(self, name: str) -> list[str]:
        """Return the stored names of a list. New entries go to the first."""
        return [name]

    def members(self, name: str, member: str) -> list[str]:  # noqa: ARG002 (the name of the list)
        """Return the stored forms of a member of a list. New entries have the first."""
        return [member]

    def users(self, user_id: str) -> list[str]:
        """Return how a user is written in keys and lists, the usual form first."""
        return [encode_id(user_id)]

    def listed(self, entry: Entry) -> list[Listed]:
        """Return the entries that the stored lists should have for a session."""
        return [(self.names(name)[0], self.members(name, member)[0], score) for name, member, score in lists_of(entry)]


def list_of(status: SessionStatus, user_id: str | None) -> str:
    """Return the name of the list of the sessions of this status and user. None: of all users."""
    return status.value if user_id is None else f"{USERS}{encode_id(user_id)}/{status.value}"


def session_listed(name: str, member: str) -> str | None:
    """Return the session id that a list entry stands for. None: the list or the member is not one of ours."""
    if name == EXPIRY:
        session, *rest = member.split("/")
        return decode_id(session) if len(rest) == 2 and rest[0] in STATUSES else None  # noqa: PLR2004 (status, user)
    start, _, status = name.rpartition("/")
    user = start.removeprefix(USERS)
    of_user = start.startswith(USERS) and (user.startswith(HASHED) or decode_id(user) is not None)
    return decode_id(member) if status in STATUSES and (of_user or not start) else None


def place_of_fork(reference: str) -> Place:
    """Return the list and the member that stand for the key of a reference."""
    return FORKS, reference.removeprefix("forks/")


def reference_listed(member: str) -> str | None:
    """Return the key of the reference that a member of the list of forks stands for. None: it is not one of ours."""
    key = f"forks/{member}"
    return None if session_of_key(key) is None else key


def listings_of(old: Entry | None, new: Entry | None) -> Sequence[Listing]:
    """Return the changes that move a session in the lists from *old* to *new*. None: the session is not listed."""
    if old is None or new is None or not old.is_beside(new) or old.expires != new.expires:
        before, after = _places(old), _places(new)
        moved = [Listing(*place, before.get(place), score) for place, score in after.items()]
        return [*moved, *(Listing(*place, score, None) for place, score in before.items() if place not in after)]
    was = exact(old.activity)
    return [Listing(name, member, score if name == EXPIRY else was, score) for name, member, score in lists_of(new)]


def _places(entry: Entry | None) -> dict[Place, int]:
    return {} if entry is None else {(name, member): score for name, member, score in lists_of(entry)}


# Lists made from documents ---------------------------------------------------------------------------------------

_SHOWN = re.compile(r'"user_id":(?:"([A-Za-z0-9_-]{24})"|null),"status":"(active|archived)","activity":(-?[0-9]{1,18})')
"""The part of an encrypted head's envelope from which its lists can be made, though the rest is damaged."""
_USER = re.compile(r'"user_id": ?("(?:[^"\\]|\\.)*")')
_UPDATED = re.compile(r'"updated_at": ?"([^"]*)"(?:, ?"active_at": ?"([^"]*)")?')


def listed(key: str, read: Callable[[], object]) -> Iterable[Listed]:
    """Return the list entries that follow from the document under a key. Storages call it as their `Derive`."""
    under, rest = split_namespace(key)
    kind, _, name = rest.partition("/")
    session_id = decode_id(name) if kind == "session" else None
    value = None if session_id is None else read()
    if session_id is None or value is None:
        return []
    found = read_envelope(value, session_id)
    if found and found.entry:
        return lists_of(found.entry, under, hashed=True)
    shown = _SHOWN.search(_text(value)[:1000])
    if found is None and shown:
        user, status, activity = shown.groups()
        return lists_of(Entry(session_id, user, SessionStatus(status), int(activity)), under, hashed=True)
    return lists_of(_entry_of(value, session_id), under)


def _entry_of(value: object, session_id: str) -> Entry:
    """Return the entry of a stored head. Of a damaged head it is put together from what is still legible.

    A damaged session stays in its user's list, and a call that reads the list raises.
    """
    try:
        return read_head(value, session_id).entry
    except InvalidDocumentError:
        text = _text(value)
    user, updated = _USER.search(text), _UPDATED.search(text)
    try:
        user_id = check_id(json.loads(user.group(1)), "user_id") if user else None
        activity = microseconds(check_time(updated.group(2) or updated.group(1), "updated_at")) if updated else 0
    except ValueError:
        user_id, activity = None, 0
    return Entry(session_id, user_id, SessionStatus.ACTIVE, activity)


def _text(value: object) -> str:
    """Return a stored value of any type as text."""
    return bytes(value).decode(errors="replace") if is_bytes(value) else str(value)
