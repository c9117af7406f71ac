"""Sealing: compressing and encrypting the text of a document, and the reverse.

AES-256-GCM with random nonces of 96 bits. Three keys are derived from each key of the ring, by HKDF-Expand (RFC 5869;
the keys are random, so they need no extraction): one encrypts, one hashes user ids, and one is a check that tells a
wrong key from a damaged document.
"""

from __future__ import annotations

import hmac
import os
import re
import threading
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from pyai_sessions.documents.envelopes import Envelope, clear_of, envelope, read_envelope, text_of
from pyai_sessions.documents.keys import head_key, is_state, session_of_key, split_namespace, written_key
from pyai_sessions.documents.reading import is_stamp, read_head, stamp_of
from pyai_sessions.errors import (
    EncryptionError,
    InvalidDocumentError,
    InvalidValueError,
    MissingPackageError,
    OversizedDocumentError,
)
from pyai_sessions.model.heads import FORMAT, Entry
from pyai_sessions.values.checks import kind_of, shown
from pyai_sessions.values.json import is_mapping, read
from pyai_sessions.values.tokens import new_token

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

INDEX = "index"
"""The id of the key that hashes user ids. If the ring has none, its first key hashes them."""

OTHER_INDEX = (
    "its user id is hashed with another key than this ring's; keep the store's first key in the ring, under the id "
    f"{INDEX!r} if it should no longer encrypt"
)
NOT_ENCRYPTED = "it is not encrypted, as all documents here must be; Encrypted(..., migrate=True) reads such documents"

_KEY_BYTES = 32
_NONCE_BYTES = 12
_ZSTD = b"\x28\xb5\x2f\xfd"
"""The beginning of zstandard's frames, which is not valid UTF-8."""


class _Key(NamedTuple):
    key_id: str
    check: str
    cipher: AESGCM


class _Zstd(threading.local):
    """A compressor and a decompressor for each thread: they are not thread-safe."""

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError as err:
            raise MissingPackageError("compress=True", "zstandard", name=err.name) from err
        self.size = zstandard.frame_content_size
        self.error = zstandard.ZstdError
        self.compress = zstandard.ZstdCompressor().compress
        self.decompress = zstandard.ZstdDecompressor().decompress


class Sealer:
    """Encrypts documents with the newest key of a ring and decrypts them with any; see `Encrypted`."""

    def __init__(
        self, keys: Mapping[str, bytes], *, compress: bool, max_size: int, max_ratio: int, migrate: bool
    ) -> None:
        ring = _check_keys(keys)
        try:  # here, so that `Encrypted` can be named and imported where cryptography is not installed
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as err:
            raise MissingPackageError("Encrypted", "cryptography", name=err.name) from err
        self._refused = InvalidTag
        index = ring.pop(INDEX) if INDEX in ring else next(iter(ring.values()))
        self.migrate = migrate
        self.max_size = _check_bound(max_size, "max_size")
        self.max_ratio = _check_bound(max_ratio, "max_ratio")
        self._compresses = bool(compress)
        self._zstd: _Zstd | None = _Zstd() if compress else None
        self._keys = {each: _Key(each, _check_of(key), AESGCM(_derived(key, b"encrypt"))) for each, key in ring.items()}
        self._newest = next(reversed(self._keys.values()))
        # A save names its user several times.
        self.user = lru_cache(maxsize=1024)(partial(_hashed, _derived(index, b"user ids")))
        """Returns the hash of a user id: 144 bits of its HMAC-SHA256."""
        self.index = _check_of(index)

    @property
    def key_ids(self) -> list[str]:
        """The ids of the keys that encrypt, oldest first."""
        return list(self._keys)

    def entry(self, entry: Entry) -> Entry:
        """Return an index entry with its user hashed."""
        return entry if entry.user_id is None else replace(entry, user_id=self.user(entry.user_id))

    # Sealing -----------------------------------------------------------------------------------------------------

    def seal(self, key: str, text: bytes) -> bytes:
        """Return the encrypted form of any document, to be stored under *key*."""
        written, session_id = _written(key), _session_of(key)
        if not shows_stamp(key):
            return self._sealed(written, b'{"format":%d,' % FORMAT, text)
        stamp = stamp_of(text)
        if session_id is None:
            return self.seal_head(written, stamp if is_stamp(stamp) else _new_stamp(), None, text)
        try:
            entry: Entry | None = read_head(text, session_id).entry
        except InvalidDocumentError:
            entry = None
        return self.seal_head(written, stamp if is_stamp(stamp) else _new_stamp(), entry, text)

    def seal_head(self, key: str, stamp: str, entry: Entry | None, text: bytes) -> bytes:
        """Return the encrypted form of a head, which begins with the same stamp."""
        return self._sealed(key, clear_of(stamp, entry and self.entry(entry), self.index), text)

    def _sealed(self, key: str, clear: bytes, text: bytes) -> bytes:
        authenticated = b'%b"encrypted":"%b.%b:' % (clear, self._newest.key_id.encode(), self._newest.check.encode())
        nonce = os.urandom(_NONCE_BYTES)  # not from our stock of tokens: a nonce used twice would reveal the key
        packed = self._packed(text) if self._compresses else text
        return envelope(authenticated, nonce + self._newest.cipher.encrypt(nonce, packed, _bound(key, authenticated)))

    def _packed(self, text: bytes) -> bytes:
        """Return a text compressed, if that is shorter and within the bounds of `_unpacked`."""
        packed: bytes = self._compressor.compress(text)
        fits = len(text) <= min(self.max_size, self.max_ratio * len(packed))
        return packed if fits and len(packed) < len(text) else text

    @property
    def _compressor(self) -> _Zstd:
        if self._zstd is None:
            self._zstd = _Zstd()
        return self._zstd

    # Opening -----------------------------------------------------------------------------------------------------

    def is_current(self, value: object) -> bool:
        """Return whether a stored value is encrypted with the newest key."""
        found = read_envelope(value)
        return found is not None and (found.key_id, found.key_check) == self._newest[:2]

    def open(self, key: str, value: object) -> object:
        """Return the text of the document stored under *key*, or the error that says why it cannot be decrypted."""
        found = read_envelope(value)
        if found is None:
            text = text_of(value)
            return value if text is None or self.migrate else _not_encrypted(key, value, text)
        try:
            return self._opened(key, value, found)
        except InvalidDocumentError as err:
            return err

    def resealed(self, key: str, value: object) -> bytes:
        """Return the document stored under *key*, encrypted with the newest key.

        Raises:
            InvalidDocumentError: It cannot be decrypted.

        """
        found = read_envelope(value)
        if found is not None:
            return self._sealed(_written(key), found.clear, self._opened(key, value, found))
        text = text_of(value)
        if text is None or not self.migrate:
            raise _not_encrypted(key, value, text or b"")
        return self.seal(key, text)

    def _opened(self, key: str, value: object, found: Envelope) -> bytes:
        ours = self._keys.get(found.key_id)
        if ours is None or ours.check != found.key_check:
            problem = "is not in the ring" if ours is None else "has other bytes in the ring"
            reason = f"it is encrypted with key {found.key_id!r}, which {problem}"
            raise EncryptionError(key, _session_of(key), value, reason, found.key_id)
        if found.index_check not in ("", self.index):
            raise EncryptionError(key, _session_of(key), value, OTHER_INDEX, found.key_id)
        ciphertext = found.ciphertext()
        try:
            bound = _bound(_written(key), found.authenticated)
            packed = ours.cipher.decrypt(ciphertext[:_NONCE_BYTES], ciphertext[_NONCE_BYTES:], bound)
        except (self._refused, ValueError) as err:
            reason = f"it was changed since it was encrypted with key {found.key_id!r}, or was moved from another key"
            raise InvalidDocumentError(key, _session_of(key), value, reason) from err
        return self._unpacked(key, value, packed) if packed.startswith(_ZSTD) else packed

    def _unpacked(self, key: str, value: object, packed: bytes) -> bytes:
        """Return the text in a frame of zstandard, if its size is within the bounds."""
        zstd = self._compressor
        try:
            size = int(zstd.size(packed))
            if size > min(self.max_size, self.max_ratio * len(packed)):
                reason = (
                    f"it expands from {len(packed)} to {size} bytes; at most {self.max_size} bytes and "
                    f"{self.max_ratio} times its size are accepted"
                )
                raise OversizedDocumentError(key, _session_of(key), value, reason, size)
            text: bytes = zstd.decompress(packed) if size >= 0 else b""
        except zstd.error as err:
            raise InvalidDocumentError(key, _session_of(key), value, "its compressed text is damaged") from err
        if size < 0:  # a frame of unknown size, which we never write
            raise InvalidDocumentError(key, _session_of(key), value, "its compressed text does not say how large it is")
        return text


def _not_encrypted(key: str, value: object, text: bytes) -> InvalidDocumentError:
    try:
        read(text)
    except ValueError:
        return InvalidDocumentError(key, _session_of(key), value, "it is neither an encrypted document nor JSON")
    return EncryptionError(key, _session_of(key), value, NOT_ENCRYPTED, None)


def shows_stamp(key: str) -> bool:
    """Return whether a document shows its stamp when it is encrypted: a head or a state, set aside or not."""
    written = written_key(split_namespace(key)[1])
    session_id = session_of_key(written)
    return is_state(written) or (session_id is not None and written == head_key(session_id))


def _session_of(key: str) -> str | None:
    return session_of_key(written_key(split_namespace(key)[1]))


def _written(key: str) -> str:
    """Return the key under which a document was written, with its namespace."""
    start, rest = split_namespace(key)
    return start + written_key(rest)


def _bound(key: str, authenticated: bytes) -> bytes:
    """Return the data that a ciphertext authenticates: the document's key, and the part of it in the clear."""
    return key.encode("utf-8", "surrogatepass") + b"\0" + authenticated


def _hashed(key: bytes, user_id: str) -> str:
    return _text(hmac.digest(key, user_id.encode("utf-8", "surrogatepass"), "sha256")[:18])


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, b"pyai_sessions " + purpose + b"\x01", "sha256")


def _check_of(key: bytes) -> str:
    return _text(_derived(key, b"check")[:6])


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode()


def _new_stamp() -> str:
    return f'{{"format":{FORMAT},"revision":"{new_token(12)}"'


def _check_keys(keys: Any) -> dict[str, bytes]:
    if not is_mapping(keys) or not set(keys) - {INDEX}:
        problem = 'is not a ring of keys; it is a mapping such as {"2026-01": os.urandom(32)}, the newest key last'
        raise InvalidValueError("keys", problem)
    for key_id, key in keys.items():
        # The id is not shown, since it may be a key by mistake; and it is too short to be one.
        if not isinstance(key_id, str) or not re.fullmatch("[A-Za-z0-9_-]{1,32}", key_id):
            raise InvalidValueError(
                "keys", "has an invalid id; an id has 1 to 32 characters of A-Z, a-z, 0-9, '-' and '_'"
            )
        if not isinstance(key, bytes) or len(key) != _KEY_BYTES:
            found = f"{len(key)} bytes" if isinstance(key, bytes) else kind_of(key)
            problem = f"is {found}; a key is {_KEY_BYTES} random bytes: os.urandom({_KEY_BYTES})"
            raise InvalidValueError(f"keys[{key_id!r}]", problem)
    return dict(keys)


def _check_bound(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidValueError(name, f"is {shown(value)}; it is a whole number of 1 or more")
    return value
