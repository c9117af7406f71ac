"""Session ⇄ documents: the one home of the stored JSON format.

One *head* document per session, and *sealed pages* for the older messages:

    session/<id>             {"format":1,"revision":…,"session_id":…, …, "sealed":[…], …, "messages":[the newest]}
    messages/<id>/<gen>/<n>  [32 messages or fewer]: written once, never changed
    forks/<id>/<fork>/<inc>  {"format":1,"pages":{"<gen>":3}}: pages of <id> that the session <fork> names, too

The head is the commit point: a page counts once a head names it. `Head` lists the head's fields in the order in which
they are written; the fields that an index reads come before the conversation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from itertools import accumulate, takewhile
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote, unquote

import msgspec

from pyai_sessions.checks import Clock, check_id, check_time
from pyai_sessions.errors import EncryptionError, InvalidDocumentError, InvalidValueError
from pyai_sessions.history import History, Line, Origin, Run, StoredBranch
from pyai_sessions.messages import Message, ReadMessage, messages_of
from pyai_sessions.models import (
    Session,
    SessionStatus,
    SessionSummary,
    check_status,
    history_of,
    later,
    leave,
    session_of,
    values_of,
)
from pyai_sessions.points import Checkpoint, Parent, Summary
from pyai_sessions.tokens import new_token
from pyai_sessions.values import convert, is_array, is_bytes, is_mapping, plain_object, read, read_as, write
from pyai_sessions.windows import SYSTEM

FORMAT = 1

UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""How to read older formats: under *n*, a function from a head of format *n* to one of format *n* + 1."""

PAGE_MESSAGES = 32
PAGE_BYTES = 8 * 1024
"""A tail of more messages or bytes of JSON than this is sealed into pages of at most so much.

Measured on SQLite: with 16 KiB a turn costs a sixth more, with 4 KiB no less, and loading costs the same with each.
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


# Keys -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def encode_id(value: str) -> str:
    """Return an id as it stands in keys: percent-encoded, so that no id can forge another key or a path."""
    text = quote(value, safe="", errors="surrogatepass")
    return "%2E" + text[1:] if text[0] == "." else text


def decode_id(text: str) -> str | None:
    """Return the id that stands as *text* in keys, or None where none does: the key is not ours."""
    try:
        value = unquote(text, errors="surrogatepass")
    except UnicodeDecodeError:
        return None
    return value if value and encode_id(value) == text else None


def head_key(session_id: str) -> str:
    """Return the key of a session's head."""
    return f"session/{encode_id(session_id)}"


def page_prefix(session_id: str) -> str:
    """Return what the keys of all pages of a session begin with."""
    return f"messages/{encode_id(session_id)}/"


def page_keys(runs: Iterable[Run], start: int = 0, stop: int | None = None) -> list[str]:
    """Return the keys of the pages of *runs*, oldest first; of those from *start* to *stop*, counted over all runs."""
    keys: list[str] = []
    for run in runs:
        prefix = f"{page_prefix(run.owner)}{run.generation}/"
        last = run.pages if stop is None else min(run.pages, stop)
        keys += [f"{prefix}{n}" for n in range(max(0, start), last)]
        start -= run.pages
        stop = None if stop is None else stop - run.pages
    return keys


def branch_key(session_id: str, branch_id: str) -> str:
    """Return the key of the document of a branch: where the first page of a generation of that name would be."""
    return f"{page_prefix(session_id)}{branch_id}/0"


def reference_prefix(owner: str) -> str:
    """Return what the keys of all references to a session's pages begin with."""
    return f"forks/{encode_id(owner)}/"


def reference_key(owner: str, fork: str, incarnation: str) -> str:
    """Return the key of the reference that a *fork* of that *incarnation* leaves with the *owner* of pages it names."""
    return f"{reference_prefix(owner)}{encode_id(fork)}/{incarnation}"


def parts_of_reference(key: str) -> tuple[str, str, str]:
    """Return the owner, the fork and its incarnation that the key of a reference names."""
    _, owner, fork, incarnation = key.split("/")
    return decode_id(owner) or "", decode_id(fork) or "", incarnation


def aside_key(key: str, token: str) -> str:
    """Return the key under which an unreadable document is set aside: ``unreadable/<id>/<token>/…``."""
    kind, _, rest = key.partition("/")
    name, slash, page = rest.partition("/")
    return f"unreadable/{name}/{token}/{kind}{slash}{page}"


def written_key(key: str) -> str:
    """Return the key that a document was written under: *key*, or the one before it was set aside."""
    kind, _, rest = key.partition("/")
    parts = rest.split("/", 3)
    if kind != "unreadable" or len(parts) < 3:  # noqa: PLR2004 (the id, the token, the kind, and what followed the id)
        return key
    name, _, kind, *page = parts
    return "/".join([kind, name, *page])


def session_of_key(key: object) -> str | None:
    """Return the id of the session whose head, page or reference lies under *key*; None where the key is not ours."""
    if not isinstance(key, str):
        return None
    kind, _, rest = key.partition("/")
    if kind == "session":
        return decode_id(rest)
    if kind == "messages" and re.fullmatch(r"[^/]+/[A-Za-z0-9_-]+/[0-9]+", rest):
        return decode_id(rest.partition("/")[0])
    if kind == "forks" and re.fullmatch(r"[^/]+/[^/]+/[A-Za-z0-9_-]*", rest):
        owner, fork, _ = rest.split("/")
        return decode_id(owner) if decode_id(fork) else None
    return None


# Heads ------------------------------------------------------------------------------------------------------------


class Head(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A session's head document. What has a default may be absent in a document that was written by hand.

    *leading* is how many of the first messages instruct the model. Fields that are UNSET are not written.
    """

    format: int
    revision: str = ""
    session_id: str = ""
    user_id: str | None = None
    status: SessionStatus = SessionStatus.ACTIVE
    created_at: Annotated[datetime, msgspec.Meta(tz=True)] = _EPOCH
    updated_at: Annotated[datetime, msgspec.Meta(tz=True)] = _EPOCH
    message_count: int = -1
    incarnation: str = ""
    edition: str = ""
    sealed: tuple[Run, ...] = ()
    dropped: tuple[str, ...] = ()
    branches: tuple[StoredBranch, ...] | msgspec.UnsetType = msgspec.UNSET
    leading: int | msgspec.UnsetType = msgspec.UNSET
    summary: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    forked: bool | msgspec.UnsetType = msgspec.UNSET
    parent: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    metadata: msgspec.Raw = msgspec.Raw(b"{}")
    state: msgspec.Raw = msgspec.Raw(b"{}")
    checkpoints: msgspec.Raw = msgspec.Raw(b"[]")
    messages: msgspec.Raw = msgspec.Raw(b"[]")


def named_runs(head: Head) -> tuple[Run, ...]:
    """Return all pages that a head names, each once: what may not be removed while it stands.

    Those of its branches and their documents are among them. Where there are such, the runs' numbers of messages are 0.
    """
    if not head.branches:
        return head.sealed
    runs = [*head.sealed, *(run for each in head.branches for run in branch_runs(head.session_id, each))]
    owners = dict.fromkeys(run.owner for run in runs)
    return tuple(
        [Run(owner, generation, pages, 0) for owner in owners for generation, pages in extent(runs, owner).items()]
    )


def branch_runs(session_id: str, branch: StoredBranch) -> list[Run]:
    """Return the pages of a branch, its document among them, which is no page of messages."""
    return [*branch.sealed, Run(session_id, branch.branch_id, 1, 0)]


def branch_keys(head: Head) -> set[str]:
    """Return the keys of the documents of a head's branches."""
    return {branch_key(head.session_id, each.branch_id) for each in head.branches or ()}


def owners_of(runs: Iterable[Run], session_id: str) -> tuple[str, ...]:
    """Return the sessions other than this one whose pages *runs* are."""
    return tuple({run.owner: None for run in runs if run.owner != session_id})


def extent(runs: Iterable[Run], owner: str) -> dict[str, int]:
    """Return how many pages of each generation of *owner* the *runs* name: always the first ones."""
    found: dict[str, int] = {}
    for run in runs:
        if run.owner == owner and run.pages:
            found[run.generation] = max(run.pages, found.get(run.generation, 0))
    return found


class Entry(NamedTuple):
    """What the indexes hold of a session. *activity* is its ``updated_at`` in microseconds since 1970."""

    session_id: str
    user_id: str | None
    status: SessionStatus
    activity: int

    def is_beside(self, other: Entry) -> bool:
        """Return whether an index lists both under the same user and status."""
        return (self.user_id, self.status) == (other.user_id, other.status)


class StoredHead(msgspec.Struct, frozen=True):
    """A head that was read: its fields, the *stamp* to compare at the next commit, and fields of later releases."""

    head: Head
    stamp: str
    unknown: dict[str, Any]

    @property
    def entry(self) -> Entry:
        """What the indexes should hold of this session."""
        return Entry(self.head.session_id, self.head.user_id, self.head.status, microseconds(self.head.updated_at))

    @property
    def sealed(self) -> int:
        """How many messages lie in pages."""
        return sum(run.messages for run in self.head.sealed)


_HEAD = msgspec.json.Decoder(Head)
_RAW_FIELDS = ("metadata", "state", "checkpoints", "messages", "summary")
_STAMP = re.compile(r'\{"format":[0-9]{1,9},"revision":"[A-Za-z0-9_-]{1,64}"')
_STAMP_SIZE = 100
_KEY_NAME = re.compile("([A-Za-z0-9_-]{1,32})[.][A-Za-z0-9_-]{8}:")


def microseconds(time: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """Return the time so many microseconds after 1970."""
    return _EPOCH + count * _MICROSECOND


def stamp_of(document: str | bytes) -> str:
    """Return the prefix of a head's text that no other revision shares: what a commit compares.

    A head that we wrote begins with its revision. Of one that was written by hand, or formatted anew, all is compared.
    """
    start = document[:_STAMP_SIZE]
    found = _STAMP.match(start.decode(errors="replace") if isinstance(start, bytes) else start)
    if found:
        return found.group()
    return document.decode(errors="replace") if isinstance(document, bytes) else document


def is_stamp(text: str) -> bool:
    """Return whether a text is the prefix that heads written by us begin with, not a whole document."""
    return _STAMP.fullmatch(text) is not None


def stamp_of_value(value: object | None) -> str | None:
    """Return the stamp of a stored head, readable or not; None where there is none."""
    if isinstance(value, InvalidDocumentError):
        value = value.document
    if value is None or isinstance(value, str):
        return None if value is None else stamp_of(value)
    return stamp_of(bytes(value)) if is_bytes(value) else str(value)


def read_head(value: object, session_id: str) -> StoredHead:
    """Return the head that a mapping holds as *value* for *session_id*.

    Raises:
        InvalidDocumentError: It is not a head of this session that this release can read.

    """
    key = head_key(session_id)
    document = _document(value, key, session_id)
    try:
        head, unknown = _read_head(document)
        if head.user_id is not None:
            check_id(head.user_id, "user_id")
    except ValueError as err:
        raise _unreadable(key, session_id, value, err) from err
    if head.session_id != session_id:
        raise InvalidDocumentError(key, session_id, value, f"it is the head of session {head.session_id!r}")
    return StoredHead(head, stamp_of(document), unknown)


def _read_head(document: str | bytes) -> tuple[Head, dict[str, Any]]:
    try:
        head = _HEAD.decode(document)
        if head.format == FORMAT:
            return head, {}
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        pass
    return _read_head_slowly(_decoded(document))


def _read_head_slowly(text: str) -> tuple[Head, dict[str, Any]]:
    """Read a head of an older format, with unknown fields, or with lone surrogates."""
    found = read(text)
    if not is_mapping(found) or type(found.get("format")) is not int:
        msg = 'it is not a JSON object with a whole number as "format"'
        raise ValueError(msg)
    fields = dict(found)
    _refuse_encrypted(fields)
    if fields["format"] > FORMAT:
        msg = f"it has format {fields['format']}, written by a newer release; this one reads up to {FORMAT}"
        raise ValueError(msg)
    while fields["format"] < FORMAT:
        upgrade = UPGRADES.get(fields["format"])
        if upgrade is None:
            msg = f"it has format {fields['format']}, which never was"
            raise ValueError(msg)
        fields = upgrade(fields)
    known = {name: fields.pop(name) for name in Head.__struct_fields__ if name in fields}
    raw = {name: msgspec.Raw(write(known.pop(name))) for name in _RAW_FIELDS if name in known}
    return msgspec.structs.replace(convert(known, Head), **raw), fields


def _document(value: object, key: str, session_id: str) -> str | bytes:
    """Return a stored value if it can be a document: text, or bytes, which some mappings and SQL return."""
    if isinstance(value, InvalidDocumentError):  # the backend could not open it
        raise value
    if isinstance(value, str):
        return value
    if is_bytes(value):
        return bytes(value)
    raise InvalidDocumentError(key, session_id, value, f"it is a {type(value).__name__}, not JSON text")


class _EncryptedError(ValueError):
    """A document is encrypted, and no backend below this has opened it."""


def _refuse_encrypted(found: Mapping[str, Any]) -> None:
    name = _KEY_NAME.match(str(found.get("encrypted")))
    if name:
        raise _EncryptedError(name.group(1))


def _unreadable(key: str, session_id: str, value: object, err: Exception) -> InvalidDocumentError:
    """Return the error that says why a document cannot be read."""
    if isinstance(err, _EncryptedError):
        reason = f"it is encrypted with key {err.args[0]!r}: open the store as KVSessionStore(Encrypted(mapping, keys))"
        return EncryptionError(key, session_id, value, reason, err.args[0])
    return InvalidDocumentError(key, session_id, value, _reason(err))


def _decoded(document: str | bytes) -> str:
    return document.decode() if isinstance(document, bytes) else document


def _reason(err: Exception) -> str:
    """Say what is wrong with a document without quoting it."""
    if isinstance(err, UnicodeDecodeError):
        return "its bytes are not UTF-8 text"
    if isinstance(err, json.JSONDecodeError):
        return f"it is not JSON ({err.msg} at character {err.pos})"
    if isinstance(err, InvalidValueError):
        return f"its {err.path} is not acceptable"
    return str(err) if type(err) is ValueError else f"it is not JSON ({type(err).__name__})"


# References -------------------------------------------------------------------------------------------------------


def write_reference(pages: Mapping[str, int]) -> bytes:
    """Return a reference to so many pages of each generation."""
    return write({"format": FORMAT, "pages": dict(pages)})


def read_reference(value: object, key: str) -> dict[str, int]:
    """Return how many pages of each generation the reference names that a mapping holds as *value* under *key*.

    Raises:
        InvalidDocumentError: It is not a reference that this release can read.

    """
    fork = parts_of_reference(key)[1]
    document = _document(value, key, fork)
    try:
        return read_as(document, _REFERENCE, _Reference).pages
    except ValueError as err:
        raise InvalidDocumentError(key, fork, value, _reason(err)) from err


class _Reference(msgspec.Struct, frozen=True):
    format: Literal[1]
    pages: dict[str, int]


_REFERENCE = msgspec.json.Decoder(_Reference)


# Messages ---------------------------------------------------------------------------------------------------------


_MESSAGES = msgspec.json.Decoder(list[ReadMessage])
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def write_messages(messages: list[Message]) -> bytes:
    """Return messages as a page: a JSON array."""
    for each in messages:
        if each.unknown_fields:
            return write([each.to_dict() for each in messages])
    return write(messages)


def read_messages(value: object, key: str, session_id: str) -> list[Message]:
    """Return the messages of a page or a tail that a mapping holds as *value* under *key*.

    Raises:
        InvalidDocumentError: It is not an array of messages.

    """
    document = _document(value, key, session_id)
    try:
        try:
            return messages_of(_MESSAGES.decode(document))
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return _read_messages_slowly(_decoded(document))
    except (ValueError, TypeError, AttributeError, KeyError) as err:
        raise _unreadable(key, session_id, value, err) from err


def _read_messages_slowly(text: str) -> list[Message]:
    """Read messages with unknown fields, or with lone surrogates."""
    items = read(text)
    if is_mapping(items):
        _refuse_encrypted(items)
    if not is_array(items):
        msg = "it is not a JSON array"
        raise ValueError(msg)
    messages: list[Message] = []
    for item in items:
        if not is_mapping(item) or not {"role", "message_id", "timestamp"} <= item.keys():
            msg = "an element is not a message"
            raise ValueError(msg)
        # The types, which dataclasses-json does not check.
        convert({k: v for k, v in item.items() if k in ReadMessage.__struct_fields__}, ReadMessage)
        messages.append(Message.from_dict(item))
    return messages


# Documents → session ----------------------------------------------------------------------------------------------


def restore(
    stored: StoredHead, pages: list[list[Message]], clock: Clock, instructions: Iterable[Message] = ()
) -> Session:
    """Return the session of a head and its last *pages*, oldest first; earlier pages count as not loaded.

    *instructions* are the first messages, where those pages do not have them.

    Raises:
        InvalidDocumentError: The head's parts do not fit together.

    """
    head = stored.head
    key = head_key(head.session_id)
    log = [message for page in pages for message in page]
    unloaded = stored.sealed - len(log)
    log += read_messages(bytes(head.messages), key, head.session_id)
    count = unloaded + len(log)
    whole = sum(run.pages for run in head.sealed) == len(pages)
    if unloaded < 0 or (whole and unloaded) or head.message_count not in (-1, count):
        raise InvalidDocumentError(key, head.session_id, None, "its message count does not fit its messages and pages")
    metadata, state, checkpoints, summary = _read_objects(stored)
    values: dict[str, Any] = {
        "session_id": head.session_id,
        "user_id": head.user_id,
        "metadata": metadata,
        "state": state,
        "status": head.status,
        "created_at": check_time(head.created_at, "created_at"),
        "updated_at": check_time(head.updated_at, "updated_at"),
        "checkpoints": checkpoints,
        "summary": summary,
    }
    if head.parent:
        values["parent"] = _read_parent(head)
    if stored.unknown:
        values["unknown_fields"] = stored.unknown
    origin = _origin(head, stored.stamp, count, log[-1] if log else None)
    return session_of(
        values,
        History(
            log=log,
            unloaded=unloaded,
            origin=origin,
            page_sizes=[len(page) for page in pages],
            incarnation=head.incarnation,
            clock=clock,
            branches=list(origin.branches),
            leading=head.leading or 0,
            instructions=list(instructions) if unloaded else [],
        ),
    )


def _origin(head: Head, stamp: str, message_count: int, last_message: Message | None) -> Origin:
    return Origin(
        stamp,
        head.revision,
        head.incarnation,
        head.edition,
        head.user_id,
        head.status,
        microseconds(head.updated_at),
        bytes(head.state),
        bytes(head.metadata),
        bytes(head.checkpoints),
        head.sealed,
        head.dropped,
        message_count,
        last_message,
        tuple(_lines(head)),
        b"null" if head.summary is msgspec.UNSET else bytes(head.summary),
        named_runs(head),
        head.forked is True,
    )


class Left(NamedTuple):
    """What the document of a branch holds: the values that the session had, and the messages after sealed pages.

    *leading* is how many of the first messages of the branch instruct the model.
    """

    leading: int
    values: dict[str, Any]
    messages: list[Message]


def read_branch(value: object, key: str, session_id: str) -> Left:
    """Return what a mapping holds as *value* under the *key* of a branch.

    Raises:
        InvalidDocumentError: It is not the document of a branch.

    """
    document = _decoded(_document(value, key, session_id))
    try:
        found = convert(read(document), dict[str, Any])
        _refuse_encrypted(found)
        summary = found["summary"]
        values = {
            "state": plain_object(found["state"], "state"),
            "checkpoints": [Checkpoint.from_dict(each) for each in found["checkpoints"]],
            "summary": None if summary is None else Summary.from_dict(summary),
        }
        leading, messages = convert(found["leading"], int), write(found["messages"])
    except (ValueError, TypeError, AttributeError, KeyError) as err:
        raise _unreadable(key, session_id, value, err) from err
    return Left(leading, values, read_messages(messages, key, session_id))


def restore_branch(stored: StoredHead, branch_id: str, left: Left, clock: Clock) -> Session:
    """Return a session that goes on from a branch that its head names, and remembers how it went on till now.

    The sealed messages of the branch count as not loaded.
    """
    session = restore(stored, [], clock)
    history = history_of(session)
    line = next(each for each in history.branches if each.branch_id == branch_id)
    if history.count:
        leave(session)
    branches = [each for each in history.branches if each is not line]
    unloaded = sum(run.messages for run in line.stored.sealed)
    other = replace(
        history,
        log=left.messages,
        unloaded=unloaded,
        page_sizes=[],
        rewritten_from=0,
        leading=left.leading,
        branches=branches,
        line=line.stored.sealed,
    )
    found = session_of(values_of(session) | left.values, other)
    found.touch()
    return found


def _read_parent(head: Head) -> Parent:
    try:
        return Parent.from_dict(head.parent)
    except (ValueError, TypeError, AttributeError, KeyError) as err:
        raise InvalidDocumentError(head_key(head.session_id), head.session_id, None, _reason(err)) from err


def _lines(head: Head) -> list[Line]:
    """Return the branches that a head names."""
    return [Line(each) for each in head.branches or ()]


def _read_objects(
    stored: StoredHead,
) -> tuple[dict[str, Any], dict[str, Any], list[Checkpoint], Summary | None]:
    head = stored.head
    try:
        metadata = read_as(bytes(head.metadata), _OBJECT, dict[str, Any])
        state = read_as(bytes(head.state), _OBJECT, dict[str, Any])
        checkpoints = [Checkpoint.from_dict(each) for each in read(bytes(head.checkpoints))]
        summary = None if head.summary is msgspec.UNSET else Summary.from_dict(read(bytes(head.summary)))
    except (ValueError, TypeError, AttributeError, KeyError) as err:
        raise InvalidDocumentError(head_key(head.session_id), head.session_id, None, _reason(err)) from err
    else:
        return metadata, state, checkpoints, summary


def summarize(stored: StoredHead) -> SessionSummary:
    """Return the summary of a head, without reading its messages."""
    head = stored.head
    try:
        metadata = read_as(bytes(head.metadata), _OBJECT, dict[str, Any])
    except ValueError as err:
        raise InvalidDocumentError(head_key(head.session_id), head.session_id, None, _reason(err)) from err
    return SessionSummary(
        session_id=head.session_id,
        user_id=head.user_id,
        metadata=metadata,
        message_count=head.message_count
        if head.message_count >= 0
        else stored.sealed + len(read(bytes(head.messages))),
        status=head.status,
        created_at=check_time(head.created_at, "created_at"),
        updated_at=check_time(head.updated_at, "updated_at"),
    )


# Session → documents ----------------------------------------------------------------------------------------------


class Draft(msgspec.Struct, frozen=True):
    """What a save will write over the head that begins with *expected* (None: where there is none).

    New *pages* by key, then the *head*, then the removal of *garbage* pages; the index *entry* in place of *previous*.
    *leftovers* are where pages of saves that were cut short would begin, as ``generation/number``: a backend that
    cannot commit pages and head as one removes them, from each such page on, while there are any.
    """

    session_id: str
    expected: str | None
    previous: Entry | None
    head: bytes
    stamp: str
    entry: Entry
    pages: dict[str, bytes]
    garbage: list[str]
    leftovers: list[str]
    paged: bool
    """Whether the head names pages."""
    owners: tuple[str, ...]
    """The other sessions whose pages the head names."""

    @property
    def listed_anew(self) -> bool:
        """Whether the indexes do not hold the session, or hold it under another user or status."""
        return self.previous is None or not self.previous.is_beside(self.entry)


class SessionDraft(Draft, frozen=True):
    """The draft of a session in hand, with what its history knows of the store once it is stored."""

    origin: Origin
    page_sizes: list[int]
    branches: list[Line]


def compose(session: Session) -> SessionDraft:
    """Return the documents that store *session* as it is now. Nothing of *session* changes but ``updated_at``.

    Costs the tail, metadata and state, not the conversation's length. New pages are composed when the tail is full.

    Raises:
        InvalidValueError: Something in the session cannot be stored; the error names it.

    """
    history = history_of(session)
    origin = history.origin
    session.session_id = check_id(session.session_id, "session_id")
    session.user_id = None if session.user_id is None else check_id(session.user_id, "user_id")
    status = check_status(session.status)
    metadata, state = _object_json(session.metadata, "metadata"), _object_json(session.state, "state")
    checkpoints = write([each.to_dict() for each in session.checkpoints]) if session.checkpoints else b"[]"
    activity = microseconds(check_time(session.updated_at, "updated_at"))
    if (
        origin
        and activity == origin.activity
        and (session.user_id != origin.user_id or _differ(metadata, origin.metadata) or _differ(state, origin.state))
    ):
        session.touch()  # it was changed directly: session.state["x"] = …
        activity = microseconds(session.updated_at)

    if history.incarnation is None:
        history.incarnation = new_token(6)  # kept: a save that is tried again creates no other
    plan = _plan_pages(session.session_id, history)
    tail = history.log[plan.kept - history.unloaded :]
    tail_json = write_messages(tail)
    pages: dict[str, bytes] = {}
    runs, page_sizes = plan.runs, plan.sizes
    # A new session is "forked" where it shares pages of a former one of its own id.
    forked = origin.forked if origin else session.session_id in {run.owner for run in history.line or ()}
    if len(tail) > 1 and (len(tail) > PAGE_MESSAGES or len(tail_json) > PAGE_BYTES):
        chunks, tail = _chunks(tail)
        tail_json = write_messages(tail)
        run = runs[-1]
        for chunk, text in chunks:
            pages[f"{page_prefix(run.owner)}{run.generation}/{run.pages}"] = text
            run = Run(run.owner, run.generation, run.pages + 1, run.messages + len(chunk))
        runs = [*runs[:-1], run]
        page_sizes = [*page_sizes, *(len(chunk) for chunk, _ in chunks)]

    lines = [_stored_line(session.session_id, each, pages) for each in history.branches]
    garbage: list[str] = []
    dropped: tuple[str, ...] = ()
    if origin and (plan.opened or tuple(lines) != origin.branches):
        left = [run for each in lines for run in branch_runs(session.session_id, each.stored)]
        garbage, dropped = _no_longer_named(session.session_id, origin, [*runs, *left])
    leading = _count_leading(history.leading, history.unloaded, history.log)
    head = Head(
        FORMAT,
        new_token(12),
        session.session_id,
        session.user_id,
        status,
        check_time(session.created_at, "created_at"),
        check_time(session.updated_at, "updated_at"),
        history.count,
        history.incarnation,
        new_token(6) if origin is None or history.rewritten_from is not None else origin.edition,
        # An open run without pages is worth a word after a rewriting alone: pages must not continue the former run.
        tuple([run for run in runs if run.pages or plan.opened or (origin and run in origin.runs)]),
        () if forked else dropped,
        tuple([each.stored for each in lines]) or msgspec.UNSET,
        leading or msgspec.UNSET,
        msgspec.UNSET if session.summary is None else msgspec.Raw(write(session.summary.to_dict())),
        forked or msgspec.UNSET,
        msgspec.UNSET if session.parent is None else session.parent.to_dict(),
        msgspec.Raw(metadata),
        msgspec.Raw(state),
        msgspec.Raw(checkpoints),
        msgspec.Raw(tail_json),
    )
    return SessionDraft(
        session_id=session.session_id,
        expected=origin.stamp if origin else None,
        previous=_entry(session.session_id, origin) if origin else None,
        head=_write_head(head, session.unknown_fields),
        stamp=_stamp(head),
        entry=Entry(session.session_id, session.user_id, status, activity),
        pages=pages,
        garbage=[] if forked else garbage,
        leftovers=_leftovers(runs[-1], origin.dropped if origin else (), origin.revision if origin else ""),
        paged=bool(head.sealed),
        owners=owners_of(named_runs(head), head.session_id),
        origin=_origin(head, _stamp(head), history.count, history.log[-1] if history.log else None),
        page_sizes=page_sizes,
        branches=lines,
    )


def amend(stored: StoredHead, **changes: Any) -> Draft:
    """Return the documents that store a session with other fields in its head, unseen the messages.

    *changes* are fields of `Head`.
    """
    old = stored.head
    head = msgspec.structs.replace(old, revision=new_token(12), dropped=(), **changes)
    run = old.sealed[-1] if old.sealed else Run(old.session_id, old.incarnation or "0", 0, 0)
    return Draft(
        session_id=head.session_id,
        expected=stored.stamp,
        previous=stored.entry,
        head=_write_head(head, stored.unknown),
        stamp=_stamp(head),
        entry=Entry(head.session_id, head.user_id, head.status, microseconds(head.updated_at)),
        pages={},
        garbage=[],
        leftovers=_leftovers(run, old.dropped, old.revision),
        paged=bool(head.sealed),
        owners=owners_of(named_runs(head), head.session_id),
    )


def appended(stored: StoredHead, messages: list[Message], now: datetime) -> Draft | None:
    """Return the documents that store a session with *messages* appended, unseen those that it has.

    None where they have to be seen: the tail is full, or may hold one of the messages.
    """
    head, tail, added = stored.head, bytes(stored.head.messages), write_messages(messages)
    count = head.message_count - stored.sealed + len(messages)
    if head.message_count < stored.sealed or count > PAGE_MESSAGES or len(tail) + len(added) > PAGE_BYTES:
        return None
    if tail != b"[]" and (b"\\u" in tail or not (tail.startswith(b"[{") and tail.endswith(b"}]"))):
        return None  # written by another hand: ids may be spelled in other ways
    for each in messages:
        if not each.message_id.isascii() or write(each.message_id) in tail:
            return None
    return amend(
        stored,
        messages=msgspec.Raw(added if tail == b"[]" else tail[:-1] + b"," + added[1:]),
        message_count=head.message_count + len(messages),
        leading=_count_leading(head.leading or 0, head.message_count, messages) or msgspec.UNSET,
        updated_at=later(now, head.updated_at),
    )


def _count_leading(known: int, before: int, messages: list[Message]) -> int:
    """Return how many of the first messages instruct the model: *known* of those *before*, and *messages* follow."""
    return known if known < before else before + sum(1 for _ in takewhile(lambda each: each.role in SYSTEM, messages))


def _entry(session_id: str, origin: Origin) -> Entry:
    return Entry(session_id, origin.user_id, check_status(origin.status), origin.activity)


def _object_json(value: object, name: str) -> bytes:
    return b"{}" if value == {} else write(plain_object(value, name))


def _differ(written: bytes, stored: bytes) -> bool:
    return written != stored and bool(read(written) != read(stored))


class _PagePlan(NamedTuple):
    """Which pages stay and which go; the last of *runs* is open: new pages continue it."""

    runs: list[Run]
    kept: int
    """How many messages lie in the pages that stay."""
    sizes: list[int]
    """The sizes of those that are loaded."""
    opened: bool = False
    """Whether the open run is new, as pages of the former go."""


def _leftovers(run: Run, dropped: Iterable[str], revision: str) -> list[str]:
    """Return where pages of saves that were cut short would begin: after an open run, or of a head's revision."""
    found = [*dropped, f"{run.generation}/{run.pages}"]
    if revision and run.generation != revision:
        found.append(f"{revision}/0")
    return found


def _plan_pages(session_id: str, history: History) -> _PagePlan:
    origin, at = history.origin, history.rewritten_from
    sizes = history.page_sizes
    # Generations are named by what they follow, so that a save that is tried again overwrites its own pages.
    first = history.incarnation or "0"
    if origin is None:
        if history.line is not None:
            return _PagePlan(
                [*history.line, Run(session_id, first, 0, 0)], history.unloaded, [], opened=bool(history.line)
            )
        return _PagePlan([Run(session_id, first, 0, 0)], 0, [])
    # A page is never written again with other messages: a reader may hold the former head.
    anew = Run(session_id, origin.revision or new_token(6), 0, 0)
    if history.line is not None:
        return _PagePlan([*history.line, anew], sum(run.messages for run in history.line), sizes, opened=True)
    runs = list(origin.runs)
    if at is None or at >= origin.sealed:
        if not runs or runs[-1].owner != session_id:
            runs.append(Run(session_id, origin.revision or first if runs else first, 0, 0))
        return _PagePlan(runs, origin.sealed, sizes)
    ends = list(accumulate(sizes, initial=history.unloaded))
    kept_loaded = max(n for n, end in enumerate(ends) if end <= at)
    base = ends[kept_loaded]
    keep = sum(run.pages for run in runs) - len(sizes) + kept_loaded if base else 0
    kept: list[Run] = []
    before = 0
    for run in runs:
        pages = min(run.pages, keep)
        keep -= pages
        if pages:
            messages = run.messages if pages == run.pages else base - before
            kept.append(Run(run.owner, run.generation, pages, messages))
            before += messages
    return _PagePlan([*kept, anew], base, sizes[:kept_loaded], opened=True)


def _no_longer_named(session_id: str, origin: Origin, runs: Iterable[Run]) -> tuple[list[str], tuple[str, ...]]:
    """Return the pages that the stored head names and *runs* do not, last first, and where they begin.

    That is ``generation/number``; such pages end with the generation.
    """
    after = extent(runs, session_id)
    garbage: list[str] = []
    dropped: list[str] = []
    for generation, pages in extent(origin.named, session_id).items():
        kept = after.get(generation, 0)
        if kept < pages:
            garbage += page_keys([Run(session_id, generation, pages, 0)], kept)
            dropped.append(f"{generation}/{kept}")
    return garbage[::-1], tuple(dropped)


def _stored_line(session_id: str, line: Line, pages: dict[str, bytes]) -> Line:
    """Return a branch as it will be stored; its document joins *pages* if it is new."""
    if line.left is None:
        return line
    left, plan = line.left, _plan_pages(session_id, line.left)
    summary: Summary | None = line.values["summary"]
    pages[branch_key(session_id, line.branch_id)] = write(
        {
            "format": FORMAT,
            "leading": _count_leading(left.leading, left.unloaded, left.log),
            "state": line.values["state"],
            "checkpoints": [each.to_dict() for each in line.values["checkpoints"]],
            "summary": None if summary is None else summary.to_dict(),
            "messages": [each.to_dict() for each in left.log[plan.kept - left.unloaded :]],
        }
    )
    return Line(msgspec.structs.replace(line.stored, sealed=tuple([run for run in plan.runs if run.pages])))


def _chunks(tail: list[Message]) -> tuple[list[tuple[list[Message], bytes]], list[Message]]:
    """Cut a full tail into pages from its oldest message on, and what is left: less than a page, or one message."""
    texts = [write_messages([each]) for each in tail]
    chunks: list[tuple[list[Message], bytes]] = []
    start, size = 0, 0
    for n, text in enumerate(texts):
        if n > start and (n - start == PAGE_MESSAGES or size + len(text) > PAGE_BYTES):
            chunks.append((tail[start:n], b"[" + b",".join(each[1:-1] for each in texts[start:n]) + b"]"))
            start, size = n, 0
        size += len(text)
    return chunks, tail[start:]


def _stamp(head: Head) -> str:
    """Return how the text of a head that we write begins."""
    return f'{{"format":{head.format},"revision":"{head.revision}"'


def _write_struct(document: msgspec.Struct) -> bytes:
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:  # a lone surrogate in an id
        fields = ((name.encode(), getattr(document, name)) for name in document.__struct_fields__)
        parts = ((k, bytes(v) if isinstance(v, msgspec.Raw) else write(v)) for k, v in fields if v is not msgspec.UNSET)
        return b"{" + b",".join(b'"%b":%b' % each for each in parts) + b"}"


def _write_head(head: Head, unknown: Mapping[str, Any]) -> bytes:
    written = _write_struct(head)
    return written[:-1] + b"," + write(dict(unknown))[1:] if unknown else written
