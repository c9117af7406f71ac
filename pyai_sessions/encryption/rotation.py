"""Rotation: encrypting stored documents with the newest key, while others write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from pyai_sessions.documents.envelopes import read_envelope, text_of
from pyai_sessions.documents.keys import is_state, session_of_key, user_of_state, written_key
from pyai_sessions.documents.limits import time_left
from pyai_sessions.documents.listed import listed
from pyai_sessions.documents.reading import readable_head
from pyai_sessions.documents.shared_state import read_state
from pyai_sessions.encryption.lists import HashedNames, check_fit
from pyai_sessions.encryption.sealing import Sealer
from pyai_sessions.errors import EncryptionError, InvalidDocumentError, OversizedDocumentError, StorageLockedError
from pyai_sessions.storage.names import encode_id, place_of, split_namespace
from pyai_sessions.storage.protocol import Change, Listing, Storage
from pyai_sessions.values.checks import utc_now

TOGETHER = 100
"""Documents that are rewritten in one transaction or round trip."""

TRIES = 100
"""How often a document is read again because it has changed."""


def rotate(storage: Storage, sealer: Sealer, under: str = "", progress: Callable[[int], object] | None = None) -> int:
    """Encrypt all documents with the newest key; return how many were not.

    Others may write meanwhile: a document that changed since it was read is read again. Text, revision and expiry of a
    document do not change. An interrupted rotation can be repeated: documents that are done are only read. Damaged
    documents are not changed.

    Args:
        storage: The storage inside an `EncryptedStorage`.
        sealer: The ring of keys.
        under: The prefix of a namespace, to rotate only its documents. By default all documents are rotated; but plain
            documents in namespaces are not, while the storage is migrated.
        progress: Called with the number of documents done so far.

    Raises:
        EncryptionError: The ring lacks the key of a document, or does not fit; all others are done.
        OversizedDocumentError: A document would expand too far; all others are done.
        StorageLockedError: Other writers changed a document at every try.

    """
    check_fit(storage, sealer, under)
    rotation = _Rotation(storage, sealer, under)
    rewritten = done = 0
    keys = iter(storage.keys(under))
    while batch := list(islice(keys, TOGETHER)):
        rewritten += rotation.rewrite(batch)
        done += len(batch)
        if progress:
            progress(done)
    if rotation.refused:
        raise rotation.refused[0]
    return rewritten


class _Rotation:
    def __init__(self, storage: Storage, sealer: Sealer, under: str) -> None:
        self._storage = storage
        self._sealer = sealer
        self._names = HashedNames(sealer)
        self._under = under
        self.refused: list[InvalidDocumentError] = []

    def rewrite(self, keys: Iterable[str]) -> int:
        """Encrypt documents with the newest key, those of one place in one step; return how many were not."""
        keys = list(keys)
        moved = sum(map(self._move_state, keys))
        changes = self._changes(keys)
        written = self._storage.write(changes) if changes else []
        rewritten = sum(len(each.put) for each, same in zip(changes, written, strict=True) if same)
        # If one document of a place has changed, none of the place was written: write them one by one.
        changed = [key for each, same in zip(changes, written, strict=True) if not same for key, _ in each.put]
        return moved + rewritten + sum(map(self._rewrite_one, changed))

    def _move_state(self, key: str) -> bool:
        """Move the plain state of a user to the key with the hashed user; return whether it was moved.

        It is written there before it is removed here, so a reader finds it at one of the keys.
        """
        under, rest = split_namespace(key)
        user_id = user_of_state(rest)
        if user_id is None or under != self._under or not self._sealer.migrate:
            return False
        plain, hashed = (f"/user:{each}" for each in (encode_id(user_id), self._names.users(user_id)[0]))
        new = under + rest.replace(plain, hashed, 1)
        for _ in range(TRIES):
            value = self._storage.read([key]).get(key)
            if value is None:
                return False
            text = text_of(value) or b""
            put = Change([(new, None)], put=[(new, self._sealer.seal(new, text))], lives=_lives(text, rest))
            self._storage.write([put])  # if it is refused, another writer has stored a newer state
            if self._storage.write([Change([(key, _start_of(value))], drop=[key])])[0]:
                return True
        raise StorageLockedError(key, f"other writers changed it at {TRIES} tries")

    def _rewrite_one(self, key: str) -> int:
        for _ in range(TRIES):
            changes = self._changes([key])
            if not changes:
                return 0
            if self._storage.write(changes) == [True]:
                return 1
        raise StorageLockedError(key, f"other writers changed it at {TRIES} tries")

    def _changes(self, keys: Iterable[str]) -> list[Change]:
        """Return the changes that rewrite documents, one for each place. Errors of keys or bounds go to `refused`."""
        places: dict[str, list[tuple[str, object, str, bytes]]] = {}
        for key, value in self._storage.read(list(dict.fromkeys(keys))).items():
            try:
                if self._is_due(key, value):
                    document = key, value, _start_of(value), self._sealer.resealed(key, value)
                    places.setdefault(place_of(key), []).append(document)
            except (EncryptionError, OversizedDocumentError) as err:  # noqa: PERF203 (the others are done)
                self.refused.append(err)
            except (InvalidDocumentError, UnicodeError):
                continue  # it is damaged
        return [
            Change(
                expect=[(key, start) for key, _, start, _ in documents],
                done=_start_of(documents[0][3]),
                put=[(key, text) for key, _, _, text in documents],
                lists=[each for key, value, _, _ in documents for each in self._relisted(key, value)],
            )
            for documents in places.values()
        ]

    def _is_due(self, key: str, value: object) -> bool:
        """Return whether a value is one of our documents and not encrypted with the newest key."""
        if read_envelope(value):
            return not self._sealer.is_current(value)
        under, rest = split_namespace(key)
        is_ours = session_of_key(written_key(rest)) is not None or is_state(rest)
        return under == self._under and is_ours

    def _relisted(self, key: str, value: object) -> list[Listing]:
        """Return the changes of lists that replace the user of a plain head by its hash."""
        session_id = session_of_key(split_namespace(key)[1])
        if session_id is None or read_envelope(value) or readable_head(value, session_id) is None:
            return []
        found = [Listing(name, member, score, score) for name, member, score in listed(key, lambda: value)]
        named = [each for each in found if self._names.is_of_user(each)]
        return self._names.listings(named, plain=True)


def _lives(text: bytes, key: str) -> int | None:
    """Return the milliseconds until a plain state expires; None if it does not."""
    try:
        return time_left(read_state(text, key).expires_at, utc_now)
    except InvalidDocumentError:
        return None


def _start_of(value: object) -> str:
    """Return a beginning of a stored document that identifies it: all of it, if it is not encrypted."""
    found = read_envelope(value)
    return (text_of(value) or b"").decode() if found is None else found.start()
