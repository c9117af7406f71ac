"""Lists of encrypted storages: users in them are hashed, and the ring must be the one by which they were."""

from __future__ import annotations

import re

from pyai_sessions.documents import read_head
from pyai_sessions.envelopes import EXPIRY, HASHED, USERS, read_envelope
from pyai_sessions.errors import EncryptionError, InvalidDocumentError
from pyai_sessions.heads import SessionStatus
from pyai_sessions.sealing import NOT_ENCRYPTED, OTHER_INDEX, Sealer
from pyai_sessions.storage.names import decode_id, split_namespace
from pyai_sessions.storage.protocol import Listing, Storage

_LIST = re.compile(f"({USERS})([^/]+)(.*)", re.DOTALL)
"""The name of a list of one user, in its namespace: what comes before the user, the user, and what comes after."""

_MEMBER = re.compile("([^/]+/[^/]+/)([^/]+)()")
"""Likewise a member of the list of what expires."""


class HashedLists:
    """How lists, and members of them, are called in an encrypted storage.

    Each method returns the hashed form, and, while a storage is migrated, the plain one after it. What names no user,
    or a hashed one, has one form.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def names(self, name: str) -> list[str]:
        """Return by which names a list is stored."""
        under, rest = split_namespace(name)
        return self._forms(under, _LIST.fullmatch(rest), name)

    def members(self, name: str, member: str) -> list[str]:
        """Return by which names a member of a list is stored."""
        return self._forms("", _MEMBER.fullmatch(member) if split_namespace(name)[1] == EXPIRY else None, member)

    def _forms(self, under: str, found: re.Match[str] | None, text: str) -> list[str]:
        user_id = None if found is None else decode_id(found[2])
        if found is None or user_id is None:
            return [text]
        hashed = f"{under}{found[1]}{HASHED}{self._sealer.user(user_id)}{found[3]}"
        return [hashed, text] if self._sealer.migrate else [hashed]

    def listings(self, listing: Listing, *, plain: bool = False) -> list[Listing]:
        """Return how a listing is stored: the hashed one, and that the plain one goes; *plain*: it alone is there."""
        name, *plain_name = self.names(listing.list)
        member, *plain_member = self.members(listing.list, listing.member)
        if not plain_name and not plain_member:
            return [Listing(name, member, listing.old, listing.new)]
        return [
            Listing(name, member, None if plain else listing.old, listing.new),
            Listing((plain_name or [name])[0], (plain_member or [member])[0], listing.old, None),
        ]


def check_fit(storage: Storage, sealer: Sealer, under: str) -> bool:
    """Raise unless a ring fits what a storage holds of a namespace: with another, lists of users would be empty.

    Looks at the sessions that are idle longest: these are none that were written with the wrong ring a moment ago.
    Returns whether there are any.

    Raises:
        EncryptionError: Users are hashed with another key than the ring's, or documents are not encrypted.

    """
    fits = False
    for status in SessionStatus:
        for _, name in storage.scan(f"{under}{status.value}", limit=1):
            key, session_id = f"{under}session/{name}", decode_id(name) or name
            value = storage.read([key]).get(key)
            found = read_envelope(value)
            if found and found.index_check not in ("", sealer.index):
                raise EncryptionError(key, session_id, value, OTHER_INDEX, found.key_id)
            if not sealer.migrate and found is None and is_readable_head(value, session_id):
                raise EncryptionError(key, session_id, value, NOT_ENCRYPTED, None)
            fits = fits or value is not None
    return fits


def is_readable_head(value: object, session_id: str) -> bool:
    """Return whether a stored value is a head that can be read as it is."""
    try:
        return value is not None and bool(read_head(value, session_id))
    except InvalidDocumentError:
        return False
