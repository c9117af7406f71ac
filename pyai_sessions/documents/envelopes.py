"""Envelopes: how an encrypted document lies in a mapping; and what lists hold because of a head, encrypted or not.

What lists and comparisons need stands in the clear.

    a head     {"format":1,"revision":…,"user_id":…,"status":…,"activity":…,"index":…,"encrypted":"<name>:<base64>"}
               (with "expires":…, after the activity, where it does)
    the rest   {"format":1,"encrypted":"<name>:<base64>"}

The name is the key's id and a check of the key, the base64 is a nonce and the ciphertext. All that stands before the
base64 is authenticated with it, and so is the document's key. The user id is a keyed hash, ``index`` the check of that
key. Of a head that is not readable only the revision stands in the clear.

Lists, of a namespace if their names begin with its prefix:

    <status>              all sessions of a status: active, archived; by activity
    user/<user>/<status>  those of a user
    expiry                those that expire, by when they do; a member is <session>/<status>/<user>, or
                          <session>/<status>/ where there is no user

Sessions and users are encoded as in keys. A hashed user begins with "=", which no encoded id has.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from pyai_sessions.documents.reading import read_head
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import Entry, SessionStatus, microseconds
from pyai_sessions.storage.names import decode_id, encode_id, split_namespace
from pyai_sessions.storage.protocol import Listed
from pyai_sessions.values.checks import check_id, check_time
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


def start_of(value: object) -> str:
    """Return the text of a document as it was read, up to what is no text; nothing where it is none at all.

    In the place of a document that could not be opened, it is what is stored.
    """
    text = text_of(value.document if isinstance(value, InvalidDocumentError) else value) or b""
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


def read_entry(value: object, session_id: str) -> Entry:
    """Return what the indexes should hold of a stored head, encrypted or not.

    Raises:
        InvalidDocumentError: It is not a head of this session that this release can read.

    """
    found = read_envelope(value, session_id)
    return found.entry if found and found.entry else read_head(value, session_id).entry


_USER = re.compile(r'"user_id": ?("(?:[^"\\]|\\.)*")')
_UPDATED = re.compile(r'"updated_at": ?"([^"]*)"')


def entry_of(value: object, session_id: str) -> Entry:
    """Return the index entry of a stored head; of a damaged one, what can still be told.

    A damaged session stays in its user's list, where reading it raises: unreadable is not absent.
    """
    try:
        return read_entry(value, session_id)
    except InvalidDocumentError:
        text = _text(value)
    user, updated = _USER.search(text), _UPDATED.search(text)
    try:
        user_id = check_id(json.loads(user.group(1)), "user_id") if user else None
        activity = microseconds(check_time(updated.group(1), "updated_at")) if updated else 0
    except ValueError:
        user_id, activity = None, 0
    return Entry(session_id, user_id, SessionStatus.ACTIVE, activity)


def _text(value: object) -> str:
    """Return a stored value as text, whatever it is."""
    return bytes(value).decode(errors="replace") if is_bytes(value) else str(value)


# Lists ------------------------------------------------------------------------------------------------------------

EXPIRY = "expiry"
USERS = "user/"
HASHED = "="
"""How a hashed user begins, as it stands in lists. Percent-encoding leaves no such character."""

_SHOWN = re.compile(r'"user_id":(?:"([A-Za-z0-9_-]{24})"|null),"status":"(active|archived)","activity":(-?[0-9]{1,18})')
"""What a head's envelope shows, wherever the damage is."""


def listed(key: str, read: Callable[[], object]) -> Iterable[Listed]:
    """Return what lists hold because of the document under a key: the `Derive` of our storages."""
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
    return lists_of(entry_of(value, session_id), under)


def lists_of(entry: Entry, under: str = "", *, hashed: bool = False) -> list[Listed]:
    """Return what the lists of a namespace hold of a session; *hashed* says that the entry's user is hashed."""
    name, status, activity = encode_id(entry.session_id), entry.status.value, exact(entry.activity)
    user = "" if entry.user_id is None else HASHED + entry.user_id if hashed else encode_id(entry.user_id)
    found = [(under + status, name, activity)]
    if user:
        found.append((f"{under}{USERS}{user}/{status}", name, activity))
    if entry.expires is not None:
        found.append((under + EXPIRY, f"{name}/{status}/{user}", exact(entry.expires)))
    return found


_EXACT = 2**53


def exact(time: int) -> int:
    """Return a time as a score that every storage keeps exactly: as it is from 1684 to 2255, else rounded a little."""
    return time if -_EXACT <= time <= _EXACT else int(float(time))
