"""Documents → session: the stored JSON format, and how it is read. `pyai_sessions.documents.writing` writes it.

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
from typing import Any

import msgspec
from msgspec import UNSET

from pyai_sessions.documents.keys import branch_key, head_key
from pyai_sessions.errors import EncryptionError, InvalidDocumentError, InvalidValueError
from pyai_sessions.model.heads import FORMAT, Count, Head, StoredHead, named_runs, stamp_of_head
from pyai_sessions.model.history import History, Line
from pyai_sessions.model.listed import SessionSummary
from pyai_sessions.model.points import Checkpoint, Parent, Summary
from pyai_sessions.model.rewinding import leave
from pyai_sessions.model.session import Session, history_of, session_of, values_of
from pyai_sessions.model.titles import check_title
from pyai_sessions.values.checks import Clock, check_id, check_time, kind_of
from pyai_sessions.values.json import (
    convert,
    decoded,
    is_array,
    is_bytes,
    is_mapping,
    plain_object,
    read,
    read_as,
    write,
)
from pyai_sessions.values.messages import Message, ReadMessage, messages_of

UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""How to read older formats: under *n*, a function from a head of format *n* to one of format *n* + 1."""

MAX_PAGES = 1_000_000
"""Pages that a session may have, those of its branches included: 32 million messages, or 8 GB of JSON.

A head of a hundred bytes can claim any number of them: what claims more is refused before a list of them is made.
"""

UNFIT = "its message count does not fit its messages and pages"

MAX_TAIL = 64 * 1024
"""Bytes of JSON that a session in hand keeps of the messages after its pages. One message alone may be longer."""

# Heads ------------------------------------------------------------------------------------------------------------


def branch_keys(head: Head) -> set[str]:
    """Return the keys of the documents of a head's branches."""
    return {branch_key(head.session_id, each.branch_id) for each in head.branches or ()}


_HEAD = msgspec.json.Decoder(Head)
_RAW_FIELDS = ("metadata", "state", "checkpoints", "messages", "summary")
_STAMP = re.compile(r'\{"format":[0-9]{1,9},"revision":"[A-Za-z0-9_-]{1,64}"')
_STAMP_SIZE = 100
_NAME_SIZE = 64
_DROPPED = re.compile("[A-Za-z0-9_-]{1,64}/[0-9]{1,9}")
_KEY_NAME = re.compile("([A-Za-z0-9_-]{1,32})[.][A-Za-z0-9_-]{8}:")


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
    document = value if type(value) is bytes else document_of(value, head_key(session_id), session_id)
    try:
        head, unknown = _read_head(document)
        _check_head(head)
    except ValueError as err:
        raise unreadable(head_key(session_id), session_id, value, err) from err
    if head.session_id != session_id:
        reason = f"it is the head of session {head.session_id!r}"
        raise InvalidDocumentError(head_key(session_id), session_id, value, reason)
    stamp = stamp_of_head(head)
    ours = document.startswith(stamp) if isinstance(document, str) else document.startswith(stamp.encode())
    return StoredHead(head, stamp if ours and head.revision else stamp_of(document), unknown)


def readable_head(value: object | None, session_id: str) -> StoredHead | None:
    """Return the head that is stored as *value*; None if there is none, or if it cannot be read."""
    try:
        return None if value is None else read_head(value, session_id)
    except InvalidDocumentError:
        return None


def _check_head(head: Head) -> None:
    """Raise ValueError where a head's fields cannot be what we wrote: what keys and comparisons are made of."""
    if head.user_id is not None:
        check_id(head.user_id, "user_id")
    check_time(head.created_at, "created_at")
    check_time(head.updated_at, "updated_at")
    check_time(head.active_at or head.updated_at, "active_at")
    for each in head.branches or ():
        check_time(each.created_at, "branches")
    runs = named_runs(head)
    names = [head.revision, head.incarnation, *[run.generation or "/" for run in head.sealed]]
    if head.branches:
        names += [run.generation or "/" for run in runs]
    if not _is_name("".join(names)) or max(map(len, names)) > _NAME_SIZE:
        msg = "a revision, incarnation or generation in it is not 64 or fewer of A-Z, a-z, 0-9, '-' and '_'"
        raise ValueError(msg)
    if head.dropped and not all(map(_DROPPED.fullmatch, head.dropped)):
        msg = "what it dropped is not named as pages are"
        raise ValueError(msg)
    check_pages(sum([run.pages for run in runs]))
    for run in runs:
        if run.start:
            check_pages(run.end)


def _is_name(text: str) -> bool:
    """Return whether a text has no other characters than A-Z, a-z, 0-9, ``-`` and ``_``."""
    return text.isascii() and f"0{text}".replace("-", "0").replace("_", "0").isalnum()


def check_pages(count: int) -> None:
    """Raise ValueError where one document names so many pages."""
    if count > MAX_PAGES:
        msg = f"it names {count} pages; at most {MAX_PAGES} are accepted"
        raise ValueError(msg)


def _read_head(document: str | bytes) -> tuple[Head, dict[str, Any]]:
    try:
        head = _HEAD.decode(document)
        if head.format == FORMAT:
            return head, {}
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    return _read_head_slowly(decoded(document))


def _read_head_slowly(text: str) -> tuple[Head, dict[str, Any]]:
    """Read a head of an older format, with unknown fields, or with lone surrogates."""
    found = read(text)
    if not is_mapping(found) or type(found.get("format")) is not int:
        msg = 'it is not a JSON object with a whole number as "format"'
        raise ValueError(msg)
    fields = dict(found)
    refuse_encrypted(fields)
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


def document_of(value: object, key: str, session_id: str | None) -> str | bytes:
    """Return a stored value if it can be a document: text, or bytes, which some mappings and SQL return."""
    if isinstance(value, InvalidDocumentError):  # the backend could not open it
        raise value
    if isinstance(value, str):
        return value
    if is_bytes(value):
        return bytes(value)
    raise InvalidDocumentError(key, session_id, value, f"it is {kind_of(value)}, not JSON text")


class _EncryptedError(ValueError):
    """A document is encrypted, and no backend below this has opened it."""


def refuse_encrypted(found: Mapping[str, Any]) -> None:
    """Raise where the fields of a document are those of an envelope: no backend below has opened it."""
    name = _KEY_NAME.match(str(found.get("encrypted")))
    if name:
        raise _EncryptedError(name.group(1))


def unreadable(key: str, session_id: str | None, value: object, err: Exception) -> InvalidDocumentError:
    """Return the error that says why a document cannot be read."""
    if isinstance(err, _EncryptedError):
        reason = f"it is encrypted with key {err.args[0]!r}: open the store as KVSessionStore(Encrypted(mapping, keys))"
        return EncryptionError(key, session_id, value, reason, err.args[0])
    return InvalidDocumentError(key, session_id, value, reason_of(err))


def reason_of(err: Exception) -> str:
    """Say what is wrong with a document without quoting it."""
    if isinstance(err, json.JSONDecodeError):
        return f"it is not JSON ({err.msg} at character {err.pos})"
    if isinstance(err, InvalidValueError):
        return f"its {err.path} is not acceptable"
    return str(err) if type(err) is ValueError else f"it is not JSON ({type(err).__name__})"


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
    document = document_of(value, key, session_id)
    try:
        try:
            return messages_of(_MESSAGES.decode(document))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return _read_messages_slowly(decoded(document))
    except (ValueError, TypeError, AttributeError, KeyError) as err:
        raise unreadable(key, session_id, value, err) from err


def sort_messages(value: object, key: str, session_id: str) -> tuple[list[Message], list[Any]]:
    """Return the messages of a page or a tail that can be read, and the JSON of the items that cannot.

    Raises:
        InvalidDocumentError: It is not a JSON array.

    """
    document = document_of(value, key, session_id)
    sound: list[Message] = []
    bad: list[Any] = []
    try:
        items = read(decoded(document))
        if not is_array(items):
            _read_messages_slowly(decoded(document))
    except ValueError as err:
        raise unreadable(key, session_id, value, err) from err
    for item in items:
        try:
            sound += _read_messages_slowly(decoded(write([item])))
        except (ValueError, TypeError, AttributeError, KeyError):  # noqa: PERF203 (each may fail)
            bad.append(item)
    return sound, bad


def _read_messages_slowly(text: str) -> list[Message]:
    """Read messages with unknown fields, or with lone surrogates."""
    items = read(text)
    if is_mapping(items):
        refuse_encrypted(items)
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
        messages.append(Message.from_dict({"content": "", **item}))
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
    whole = stored.pages == len(pages)
    if unloaded < 0 or (whole and unloaded) or head.message_count not in (-1, count):
        raise InvalidDocumentError(key, head.session_id, None, UNFIT)
    last = log[-1] if log else None
    origin = origin_of(msgspec.structs.replace(stored, last_message=last), count)
    values = _values(stored)
    return session_of(
        values,
        History(
            log=log,
            unloaded=unloaded,
            origin=origin,
            page_sizes=[len(page) for page in pages],
            incarnation=head.incarnation,
            clock=clock,
            branches=[Line(each) for each in head.branches or ()],
            leading=head.leading or 0,
            question=head.question or None,
            instructions=list(instructions) if unloaded else [],
        ),
    )


def origin_of(stored: StoredHead, count: int | None = None) -> StoredHead:
    """Return what a session in hand keeps of its stored head, which has *count* messages: without long ones."""
    head = stored.head
    changes: dict[str, Any] = {}
    if count not in (None, head.message_count):
        changes["message_count"] = count  # which a head that was written by hand need not say
    if len(memoryview(head.messages)) > MAX_TAIL:  # each field may be a view of the whole document
        views = ("metadata", "state", "checkpoints", "summary")
        small = {name: msgspec.Raw(bytes(getattr(head, name))) for name in views if getattr(head, name) is not UNSET}
        changes |= {**small, "messages": msgspec.Raw()}
    return msgspec.structs.replace(stored, head=msgspec.structs.replace(head, **changes)) if changes else stored


def read_branch(value: object, key: str, session_id: str) -> tuple[History, dict[str, Any]]:
    """Return what a mapping holds as *value* under the *key* of a branch: the messages after its pages, and values.

    Raises:
        InvalidDocumentError: It is not the document of a branch.

    """
    document = document_of(value, key, session_id)
    try:
        found = convert(read(decoded(document)), dict[str, Any])
        refuse_encrypted(found)
        summary = found["summary"]
        values = {
            "state": plain_object(found["state"], "state"),
            "checkpoints": [Checkpoint.from_dict(each) for each in found["checkpoints"]],
            "summary": None if summary is None else Summary.from_dict(summary),
        }
        leading, messages = convert(found["leading"], int), write(found["messages"])
        question = convert([found.get("question")], list[tuple[Count, str] | None])[0]
    except (ValueError, TypeError, AttributeError, KeyError) as err:
        raise unreadable(key, session_id, value, err) from err
    return History(log=read_messages(messages, key, session_id), leading=leading, question=question), values


def restore_branch(
    stored: StoredHead, branch_id: str, left: tuple[History, Mapping[str, Any]], clock: Clock
) -> Session:
    """Return a session that goes on from a branch that its head names, and remembers how it went on till now.

    *left* is what `read_branch` returned.

    The sealed messages of the branch count as not loaded.
    """
    session = restore(stored, [], clock)
    history = history_of(session)
    line = next(each for each in history.branches if each.branch_id == branch_id)
    if history.count:
        leave(session, history)
    branches = [each for each in history.branches if each is not line]
    unloaded = sum(run.messages for run in line.stored.sealed)
    other = replace(
        history,
        log=left[0].log,
        unloaded=unloaded,
        page_sizes=[],
        rewritten_from=0,
        leading=left[0].leading,
        question=left[0].question,
        asked=None,
        branches=branches,
        line=line.stored.sealed,
    )
    found = session_of(values_of(session) | dict(left[1]), other)
    found.touch()
    return found


def _values(stored: StoredHead) -> dict[str, Any]:
    """Return the values of a session's fields, but its messages."""
    head = stored.head
    try:
        values: dict[str, Any] = {
            "session_id": head.session_id,
            "user_id": head.user_id,
            "title": check_title(head.title or None),
            "metadata": _read_object(head.metadata),
            "state": _read_object(head.state),
            "status": head.status,
            "created_at": check_time(head.created_at, "created_at"),
            "updated_at": check_time(head.updated_at, "updated_at"),
            "checkpoints": [Checkpoint.from_dict(each) for each in read(bytes(head.checkpoints))]
            if bytes(head.checkpoints) != b"[]"
            else [],
            "summary": Summary.from_dict(read(bytes(head.summary))) if head.summary is not UNSET else None,
        }
        if head.parent:
            values["parent"] = Parent.from_dict(head.parent)
    except (ValueError, TypeError, AttributeError, KeyError) as err:
        raise InvalidDocumentError(head_key(head.session_id), head.session_id, None, reason_of(err)) from err
    if stored.unknown:
        values["unknown_fields"] = stored.unknown
    return values


def _read_object(raw: msgspec.Raw) -> dict[str, Any]:
    text = bytes(raw)
    return {} if text == b"{}" else read_as(text, _OBJECT, dict[str, Any])


def summarize(stored: StoredHead) -> SessionSummary:
    """Return the summary of a head, without reading its messages."""
    head = stored.head
    try:
        metadata, title = _read_object(head.metadata), check_title(stored.title)
    except ValueError as err:
        raise InvalidDocumentError(head_key(head.session_id), head.session_id, None, reason_of(err)) from err
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
        expires_at=stored.expires_at,
        title=title,
        active_at=check_time(stored.active_at, "active_at"),
    )
