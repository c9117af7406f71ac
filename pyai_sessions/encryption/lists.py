"""Lists of an encrypted storage: they name users by hashes, which need the same key each time."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyai_sessions.documents.envelopes import read_envelope
from pyai_sessions.documents.listed import EXPIRY, HASHED, USERS, Names
from pyai_sessions.documents.reading import readable_head
from pyai_sessions.encryption.sealing import NOT_ENCRYPTED, OTHER_INDEX, Sealer
from pyai_sessions.errors import EncryptionError
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.storage.names import decode_id, encode_id, split_namespace
from pyai_sessions.storage.protocol import Listing, Storage

_LIST = re.compile(f"({USERS})([^/]+)(.*)", re.DOTALL)
"""The name of a user's list without its namespace, in three parts: before the user, the user, after the user."""

_MEMBER = re.compile("([^/]+/[^/]+/)([^/]+)()")
"""A member of the list of sessions that expire, in the same parts."""


class HashedNames(Names):
    """Translates lists and members to the names that an encrypted storage uses.

    `names` and `members` return the form with the hashed user and, while a storage is migrated, the plain form after
    it. A name without a user, or with a hashed one, has only one form.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def names(self, name: str) -> list[str]:  # noqa: D102 (`Names` documents it)
        if USERS not in name:
            return [name]
        under, rest = split_namespace(name)
        return self._forms(under, _LIST.fullmatch(rest), name)

    def members(self, name: str, member: str) -> list[str]:  # noqa: D102
        is_expiry = name.endswith(EXPIRY) and split_namespace(name)[1] == EXPIRY
        return self._forms("", _MEMBER.fullmatch(member) if is_expiry else None, member)

    def users(self, user_id: str) -> list[str]:  # noqa: D102
        hashed = HASHED + self._sealer.user(user_id)
        return [hashed, encode_id(user_id)] if self._sealer.migrate else [hashed]

    def _forms(self, under: str, found: re.Match[str] | None, text: str) -> list[str]:
        user_id = None if found is None else decode_id(found[2])
        if found is None or user_id is None:
            return [text]
        return [f"{under}{found[1]}{user}{found[3]}" for user in self.users(user_id)]

    def is_of_user(self, listing: Listing) -> bool:
        """Return whether a list or its member names a user in the clear."""
        names = self.names(listing.list), self.members(listing.list, listing.member)
        return names != ([listing.list], [listing.member])

    def listings(self, listings: Iterable[Listing], *, plain: bool = False) -> list[Listing]:
        """Return the changes of lists as they are stored: entries are hashed, and plain ones are removed.

        *plain*: the listings are stored in their plain form only. If one name of a member is removed and the other is
        added, the member is listed.
        """
        found: dict[tuple[str, str], Listing] = {}
        for each in listings:
            name, *plain_names = self.names(each.list)
            member, *plain_members = self.members(each.list, each.member)
            changes = [Listing(name, member, each.old, each.new)]
            if plain_names or plain_members:
                changes = [
                    Listing(name, member, None if plain else each.old, each.new),
                    Listing((plain_names or [name])[0], (plain_members or [member])[0], each.old, None),
                ]
            for change in changes:
                other = found.get(change[:2])
                found[change[:2]] = change if other is None else _joined(other, change)
        return list(found.values())


def _joined(one: Listing, other: Listing) -> Listing:
    """Return two changes of one list entry as one."""
    old = other.old if one.old is None else one.old
    return Listing(one.list, one.member, old, one.new if other.new is None else other.new)


def check_fit(storage: Storage, sealer: Sealer, under: str) -> bool:
    """Raise unless the ring of keys fits the stored documents of a namespace. With another ring, lists would be empty.

    Checks the sessions that are idle longest, since newer ones may have been written with the wrong ring. Returns
    whether there are any.

    Raises:
        EncryptionError: Users are hashed with another key, or documents are not encrypted.

    """
    fits = False
    for status in SessionStatus:
        for _, name in storage.scan(f"{under}{status.value}", limit=1):
            key, session_id = f"{under}session/{name}", decode_id(name) or name
            value = storage.read([key]).get(key)
            found = read_envelope(value)
            if found and found.index_check not in ("", sealer.index):
                raise EncryptionError(key, session_id, value, OTHER_INDEX, found.key_id)
            if not sealer.migrate and found is None and readable_head(value, session_id):
                raise EncryptionError(key, session_id, value, NOT_ENCRYPTED, None)
            fits = fits or value is not None
    return fits
