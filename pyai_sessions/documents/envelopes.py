"""Envelopes: how an encrypted document lies in a mapping.

What lists and comparisons need stands in the clear.

    a head     {"format":1,"revision":…,"user_id":…,"status":…,"activity":…,"index":…,"encrypted":"<name>:<base64>"}
               (with "expires":…, after the activity, where it does)
    a state    {"format":1,"revision":…,"encrypted":"<name>:<base64>"}
    the rest   {"format":1,"encrypted":"<name>:<base64>"}

The name is the key's id and a check of the key, the base64 is a nonce and the ciphertext. All that stands before the
base64 is authenticated with it, and so is the document's key. The user id is a keyed hash, ``index`` the check of that
key. Of a head that is not readable only the revision stands in the clear.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import NamedTuple

import msgspec

from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import Entry, SessionStatus
from pyai_sessions.values.json import is_bytes

_ENVELOPE = re.compile(
    rb"""
    (?P<clear> [{]"format":[0-9]{1,9},
        (?: "revision":"[A-Za-z0-9_-]{1,64}",
            (?P<entry> "user_id":(?: "(?P<user>[A-Za-z0-9_-]{24})" | null ),
                "status":"(?P<status>active|archived)",
                "activity":(?P<activity>-?[0-9]{1,18}),
                (?: "expires":(?P<expires>-?[0-9]{1,18}), )?
                "index":"(?P<index>[A-Za-z0-9_-]{8})", )? )? )
    "encrypted":"(?P<key_id>[A-Za-z0-9_-]{1,32})[.](?P<check>[A-Za-z0-9_-]{8}):
    """,
    re.VERBOSE,
)

_UNIQUE = 24
"""Characters of the base64: its nonce is in the first 16."""

_BASE64 = msgspec.json.Decoder(bytes)
"""A third of what the standard library takes."""


class Envelope(NamedTuple):
    """A document that is encrypted: what stands in the clear, and *rest*, the base64 and what ends the envelope.

    *clear* comes before the name of the key, *authenticated* is both. *entry* is None where it is no readable head.
    """

    clear: bytes
    authenticated: bytes
    entry: Entry | None
    index_check: str
    key_id: str
    key_check: str
    rest: bytes

    def start(self) -> str:
        """Return how the envelope begins, as no other one does: with all up to its nonce, and some more."""
        return (self.authenticated + self.rest[:_UNIQUE]).decode()

    def ciphertext(self) -> bytes:
        """Return the nonce and the ciphertext; nothing where they are not, to the last bit, as we write them."""
        rest = self.rest.rstrip(b" ")
        try:
            found = _BASE64.decode(b'"' + rest[:-1]) if rest.endswith(b'"}') else b""
        except msgspec.DecodeError:
            return b""
        # The last group can be spelled in more than one way, and a character as an escape sequence.
        same = len(rest) == 4 * -(-len(found) // 3) + 2 and b64encode(found[-(len(found) % 3 or 3) :]) == rest[-6:-2]
        return found if same else b""


def text_of(value: object) -> bytes | None:
    """Return a stored value as bytes; None where it is neither text nor bytes."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return bytes(value) if is_bytes(value) else None


def stored_text(value: object) -> bytes | None:
    """Return the stored bytes of *value*, also if that is the error of a document that could not be decrypted."""
    return text_of(value.document if isinstance(value, InvalidDocumentError) else value)


def start_of(value: object) -> str:
    """Return the text of a document as it was read, up to what is no text; nothing where it is none at all.

    In the place of a document that could not be opened, it is what is stored.
    """
    text = stored_text(value) or b""
    try:
        return text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as err:
        return text[: err.start].decode("utf-8", "surrogatepass")


def read_envelope(value: object, session_id: str = "") -> Envelope | None:
    """Return the envelope that a stored value is, of a document of this session; None where it is none."""
    text = text_of(value)
    found = None if text is None else _ENVELOPE.match(text)
    if text is None or found is None:
        return None
    parts = {name: part.decode() for name, part in found.groupdict(b"").items()}
    entry = None
    if parts["entry"]:
        status, user = SessionStatus(parts["status"]), parts["user"] or None
        expires = int(parts["expires"]) if parts["expires"] else None
        entry = Entry(session_id, user, status, int(parts["activity"]), expires)
    return Envelope(
        found["clear"],
        found.group(),
        entry,
        parts["index"],
        parts["key_id"],
        parts["check"],
        text[found.end() :],
    )


def clear_of(stamp: str, entry: Entry | None, index: str) -> bytes:
    """Return what stands in the clear of a head: its stamp, and its entry, whose user is hashed already."""
    if entry is None:
        return f"{stamp},".encode()
    user = "null" if entry.user_id is None else f'"{entry.user_id}"'
    expires = "" if entry.expires is None else f'"expires":{entry.expires},'
    return (
        f'{stamp},"user_id":{user},"status":"{entry.status.value}","activity":{entry.activity},{expires}'
        f'"index":"{index}",'
    ).encode()


def envelope(authenticated: bytes, ciphertext: bytes) -> bytes:
    """Return an encrypted document as it is stored."""
    return authenticated + b64encode(ciphertext) + b'"}'
