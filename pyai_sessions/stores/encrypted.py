"""Mappings around mappings: `Encrypted`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from pyai_sessions.concurrency.processes import OfOneProcess
from pyai_sessions.documents.envelopes import text_of
from pyai_sessions.encryption.sealing import Sealer
from pyai_sessions.errors import InvalidDocumentError, InvalidValueError, UnsuitableMappingError
from pyai_sessions.sessions.backend import Progress, backend_of
from pyai_sessions.values.checks import kind_of


class Encrypted(OfOneProcess, MutableMapping[str, str]):
    """A mapping of text that lies encrypted in another one: AES-256-GCM, each value bound to its key.

    ``KVSessionStore(Encrypted(mapping, keys))`` keeps all that the store over *mapping* promises. In the clear stand
    session ids, revisions, statuses, times of activity and sizes; user ids are keyed hashes.

    Args:
        mapping: Any mapping that a KVSessionStore takes.
        keys: The ring: ids, and keys of 32 random bytes. The last one encrypts, all decrypt. User ids are hashed with
            the one under the id ``"index"``, which does neither and stays for good; with the first where there is none.
        compress: Whether to compress with zstandard before, where that makes a value shorter. Whoever sees sizes, and
            has a say in a conversation, can then guess at what else stands in it.
        max_size: Bytes to which a compressed value may expand.
        max_ratio: How many times its size that may be.
        migrate: Whether to take values that are not encrypted, too, till `rotate` has encrypted them all.

    Notes:
        Any thread may use it, if any may use *mapping*. Nonces are random: a key is good for 2^32 values.
        What was given is not closed.

    >>> import os
    >>> inner = {}
    >>> mapping = Encrypted(inner, {"2026-01": os.urandom(32)})
    >>> mapping["greeting"] = "hello"
    >>> mapping["greeting"]
    'hello'
    >>> inner["greeting"][:32]
    '{"format":1,"encrypted":"2026-01'

    """

    def __init__(
        self,
        mapping: Any,
        keys: Mapping[str, bytes],
        *,
        compress: bool = False,
        max_size: int = 64 * 1024 * 1024,
        max_ratio: int = 1000,
        migrate: bool = False,
    ) -> None:
        if isinstance(mapping, Encrypted):
            raise UnsuitableMappingError("this mapping is Encrypted already; give its ring the other keys")
        self.mapping = mapping
        self.sealer = Sealer(keys, compress=compress, max_size=max_size, max_ratio=max_ratio, migrate=migrate)

    def __getitem__(self, key: str) -> str:
        """Return the text under a key.

        Raises:
            KeyError: There is none.
            EncryptionError: The ring lacks its key, or it is not encrypted.
            InvalidDocumentError: It was changed, or moved here from another key.

        """
        found = self.sealer.open(key, self.mapping[key])
        if isinstance(found, InvalidDocumentError):
            raise found
        text = text_of(found)
        return found if text is None else text.decode("utf-8", "surrogatepass")  # type: ignore[return-value]

    def __setitem__(self, key: str, value: str) -> None:
        if not isinstance(value, str):
            raise InvalidValueError("value", f"is {kind_of(value)}; this mapping holds text")
        self.mapping[key] = self.sealer.seal(key, value.encode("utf-8", "surrogatepass")).decode()

    def __delitem__(self, key: str) -> None:
        del self.mapping[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.mapping)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<Encrypted {type(self.mapping).__name__} with the keys {', '.join(self.sealer.key_ids)}>"

    def rotate(self, progress: Progress | None = None) -> int:
        """Encrypt with the newest key what is encrypted with others; return how many values those were.

        Others may write meanwhile. Each transaction or round trip takes a hundred values. If a rotation was cut short,
        call it again: it reads all values, and encrypts those that are left. Damaged values stay as they are. With
        ``migrate=True``, sessions that are not encrypted are encrypted, too; for those of a namespace, call
        ``rotate_keys`` of a store of that namespace.

        Raises:
            EncryptionError: The ring lacks the key of some value; all others are done.
            OversizedDocumentError: Some document would expand too far; all others are done.

        """
        backend = backend_of(self)
        try:
            return backend.rotate(progress)
        finally:
            backend.storage.close()
