"""Session → documents: what a save is to write, and where.

Nothing here reads or writes a storage: a draft says what a commit compares, writes and removes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from pyai_sessions.documents.keys import branch_key, next_page_key
from pyai_sessions.documents.limits import KEPT, Limits, Terms
from pyai_sessions.documents.pages import (
    PAGE_BYTES,
    PAGE_MESSAGES,
    Pages,
    kept_pages,
    no_longer_named,
    open_runs,
    with_changed_pages,
    with_full_tail,
)
from pyai_sessions.documents.reading import MAX_PAGES, read_messages, write_messages
from pyai_sessions.documents.unpaged import told_by_content
from pyai_sessions.errors import InvalidValueError
from pyai_sessions.model.conversation import later
from pyai_sessions.model.fields import check_status, check_stored
from pyai_sessions.model.heads import (
    FORMAT,
    Head,
    Run,
    StoredHead,
    branch_runs,
    named_runs,
    owners_of,
    stamp_of_head,
    with_page,
    with_page_of,
)
from pyai_sessions.model.history import History, Line
from pyai_sessions.model.points import Summary
from pyai_sessions.model.session import STORED, Session, history_of
from pyai_sessions.model.titles import question_of
from pyai_sessions.prompts.formats.parts import instructs
from pyai_sessions.prompts.windows import begins
from pyai_sessions.values.json import plain_object, read, write
from pyai_sessions.values.messages import Message
from pyai_sessions.values.tokens import new_token


class Draft(msgspec.Struct, frozen=True):
    """What a commit writes over the head *before* (None: there is none): new *pages* by key, then the *head*.

    Last, *garbage* pages are removed.
    """

    before: StoredHead | None
    stored: StoredHead
    """The head as it will be read."""
    head: bytes
    pages: dict[str, bytes]
    time_left: int | None
    """Milliseconds after which a storage that can may forget the session; None leaves that as it is."""
    garbage: list[str] = []
    page_sizes: list[int] = []
    """Of a session in hand: how many messages each loaded page will hold."""
    branches: list[Line] = []
    """Of a session in hand: its branches as they will be stored."""

    @property
    def session_id(self) -> str:
        """Whose documents these are."""
        return self.stored.head.session_id

    @property
    def stamp(self) -> str:
        """How the head begins."""
        return self.stored.stamp

    @property
    def owners(self) -> tuple[str, ...]:
        """The other sessions whose pages the head names."""
        return owners_of(named_runs(self.stored.head), self.session_id)

    @property
    def leftovers(self) -> list[str]:
        """Where pages of saves that were cut short would begin, as ``generation/number``.

        After the open run, or in one that the head before would open. A storage that cannot commit pages and head as
        one removes them, from each such page on, while there are any.
        """
        head, old = self.stored.head, self.before.head if self.before else None
        run = head.sealed[-1] if head.sealed else Run(head.session_id, head.incarnation or "0", 0, 0)
        found = [f"{run.generation}/{run.end}"] if run.owner == head.session_id else []
        if old is None:
            return found
        if old.revision not in ("", run.generation):
            ends = [run.end for run in head.sealed if run.generation == old.revision and run.owner == head.session_id]
            found.append(f"{old.revision}/{max(ends) if ends else 0}")
        return [*old.dropped, *found]


def compose(session: Session, terms: Terms = KEPT) -> Draft:
    """Return the documents that store *session* as it is now. Of *session*, only ``updated_at`` changes.

    Costs the tail, metadata and state, not the conversation's length. New pages are composed when the tail is full.

    Raises:
        InvalidValueError: Something in the session cannot be stored; the error names it.

    """
    history = history_of(session)
    before, limits = history.origin, terms.limits
    pages: dict[str, bytes] = {}
    metadata, state = _checked_values(session, before, limits)
    if history.incarnation is None:
        history.incarnation = new_token(6)  # kept: a save that is tried again creates no other

    alone = history.edits and history.rewritten_from is None
    kept = kept_pages(session.session_id, history, None if alone else history.first_change)
    if alone:
        kept = with_changed_pages(history, kept, pages)
        check_messages([now for _, now in history.changes().values() if now is not None], limits)
    sealed, tail = kept, history.log[kept.messages - history.unloaded :]
    tail_json = _tail_json(history, kept, tail)
    if limits.are_narrow or len(tail_json) > limits.message_bytes:
        unchanged = history.unloaded + history.stored if history.rewritten_from is None else history.first_change or 0
        check_messages(tail[max(0, unchanged - kept.messages) :], limits)
    if terms.paged and len(tail) > 1 and (len(tail) > PAGE_MESSAGES or len(tail_json) > PAGE_BYTES):
        sealed, tail_json = with_full_tail(kept, tail, pages)

    lines = [_stored_line(session.session_id, each, pages) for each in history.branches] if history.branches else []
    branches = tuple([each.stored for each in lines]) if lines else UNSET
    # A new session is "forked" where it shares pages of a former one of its own id.
    forked = before.is_forked if before else session.session_id in {run.owner for run in history.line or ()}
    garbage: list[str] = []
    dropped: tuple[str, ...] = ()
    if before and not forked and (kept.opened or branches != before.head.branches):
        left = [run for each in branches or () for run in branch_runs(session.session_id, each)]
        garbage, dropped = no_longer_named(before, [*sealed.runs, *left])

    # An open run without pages is worth a word after a rewriting alone: pages must not continue the former run.
    stay = kept.runs if kept.opened else before.head.sealed if before else ()
    rewritten = before is not None and history.is_changed
    leading, active_at = _count_leading(history.leading, history.unloaded, history.log), session.active_at
    revision, expires_at = _renewed(before, terms, active=history.is_active)
    head = Head(
        FORMAT,
        revision=revision,
        session_id=session.session_id,
        user_id=session.user_id,
        status=check_status(session.status),
        created_at=session.created_at,
        updated_at=session.updated_at,
        active_at=UNSET if active_at == session.updated_at else active_at,
        expires_at=expires_at,
        title=UNSET if session.title is None else session.title,
        message_count=history.count,
        incarnation=history.incarnation,
        edition=revision if rewritten else before.head.edition if before else history.incarnation,
        sealed=tuple([run for run in sealed.runs if run.pages or run in stay]),
        dropped=dropped,
        branches=branches,
        leading=leading or UNSET,
        question=_question(history) or UNSET,
        gaps=sealed.gaps or UNSET,
        summary=UNSET if session.summary is None else msgspec.Raw(write(session.summary.to_dict())),
        forked=forked or UNSET,
        parent=UNSET if session.parent is None else session.parent.to_dict(),
        metadata=msgspec.Raw(metadata),
        state=msgspec.Raw(state),
        checkpoints=msgspec.Raw(
            write([each.to_dict() for each in session.checkpoints]) if session.checkpoints else b"[]"
        ),
        messages=msgspec.Raw(tail_json),
    )
    last = history.log[-1] if history.log else None
    draft = _draft(
        before,
        head,
        terms,
        pages,
        unknown=session.unknown_fields,
        last_message=last,
        garbage=garbage,
        page_sizes=sealed.sizes,
        branches=lines,
    )
    _check_documents(draft, limits)
    return draft


def amend(
    stored: StoredHead,
    terms: Terms = KEPT,
    *,
    pages: Mapping[str, bytes] | None = None,
    rewritten: bool = False,
    active: bool = True,
    garbage: Iterable[str] = (),
    **changes: Any,
) -> Draft:
    """Return the documents that store a session with other fields in its head, without reading its messages.

    *changes* are fields of `Head`; *pages* are new ones that those name, *garbage* those that they name no more.
    *rewritten* begins a new edition. Where it is not *active*, that does not prolong the session's life.
    """
    revision, expires_at = _renewed(stored, terms, active=active)
    changes.setdefault("dropped", ())
    if rewritten:
        changes["edition"] = revision
    head = msgspec.structs.replace(stored.head, revision=revision, expires_at=expires_at, **changes)
    return _draft(stored, head, terms, dict(pages or {}), unknown=stored.unknown, garbage=garbage)


def replacing(draft: Draft, before: StoredHead, terms: Terms) -> Draft:
    """Return the draft of a new session as one that replaces the session with the head *before*, which has its id."""
    # An open run without pages comes last: the next pages must not follow those of the replaced session.
    sealed = draft.stored.head.sealed or (Run(draft.session_id, new_token(6), 0, 0),)
    kept, garbage, dropped = before.head, list[str](), tuple[str, ...]()
    head = msgspec.structs.replace(draft.stored.head, sealed=sealed, incarnation=kept.incarnation, forked=kept.forked)
    if not before.is_forked:
        garbage, dropped = no_longer_named(before, named_runs(head))
    revision, expires_at = _renewed(before, terms)
    head = msgspec.structs.replace(head, dropped=dropped, revision=revision, edition=revision, expires_at=expires_at)
    was = draft.stored
    return _draft(before, head, terms, draft.pages, unknown=was.unknown, last_message=was.last_message, garbage=garbage)


def _renewed(before: StoredHead | None, terms: Terms, *, active: bool = True) -> tuple[str, datetime | UnsetType]:
    """Return what every commit sets anew: the revision, and when the session expires. *before* is the old head."""
    expires_at = terms.end(before.expires_at if before else None, new=before is None, active=active)
    return new_token(12), expires_at or UNSET


def _draft(
    before: StoredHead | None,
    head: Head,
    terms: Terms,
    pages: dict[str, bytes],
    *,
    unknown: Mapping[str, Any],
    garbage: Iterable[str],
    last_message: Message | None = None,
    page_sizes: Sequence[int] = (),
    branches: Sequence[Line] = (),
) -> Draft:
    """Return the draft of a head that has what is `_renewed`: the one writer of heads."""
    if not terms.paged:
        head = told_by_content(head, unknown, new=before is None)
    stored = StoredHead(head, stamp_of_head(head), unknown, last_message)
    time_left = terms.left(head.expires_at or None)
    text = write_head(head, unknown)
    return Draft(before, stored, text, pages, time_left, list(garbage), list(page_sizes), list(branches))


def appended(
    stored: StoredHead, messages: list[Message], chosen: list[Message], terms: Terms, **changes: Any
) -> Draft | None:
    """Return the documents that store a session with *messages* appended, without reading those that it has.

    *changes* are other fields of its head. A tail that is full becomes a page as it is. None where the messages have to
    be seen: there is too much for a page, or the tail may hold the id of one of *chosen*, those of the messages whose
    ids were not drawn.
    """
    head, tail, added = stored.head, bytes(stored.head.messages), write_messages(messages)
    count = head.message_count - stored.sealed
    if count < 0 or max(count, len(messages)) > PAGE_MESSAGES or max(len(tail), len(added)) > PAGE_BYTES:
        return None
    if not terms.paged or b"\\u" in tail or not _can_be_joined(tail):
        return None  # written by another hand: ids may be spelled in other ways
    if not messages:
        now = later(terms.clock(), head.updated_at)
        return amend(stored, terms, active=False, updated_at=now, active_at=stored.active_at, **changes)
    for each in chosen:
        if not each.message_id.isascii() or write(each.message_id) in tail:
            return None
    if len(added) > terms.limits.message_bytes or terms.limits.are_narrow:
        check_messages(messages, terms.limits)
    pages, sealed, gaps = {}, head.sealed, head.gaps
    if not count or (count + len(messages) <= PAGE_MESSAGES and len(tail) + len(added) <= PAGE_BYTES):
        added = _joined(tail, added)
    elif terms.limits.are_narrow or sum([run.pages for run in named_runs(head)]) >= MAX_PAGES:
        return None
    else:
        *former, run = open_runs(head)
        pages = {next_page_key(run): tail}
        key = next(iter(pages))
        has_turn = _ASKS in tail or any(map(begins, read_messages(tail, key, head.session_id)))
        gaps = with_page(head.gaps or (), stored.pages, stored.sealed, has_turn=has_turn) or UNSET
        sealed = (*former, with_page_of(run, count))
    return amend(
        stored,
        terms,
        pages=pages,
        sealed=sealed,
        gaps=gaps,
        messages=msgspec.Raw(added),
        message_count=head.message_count + len(messages),
        leading=_count_leading(head.leading or 0, head.message_count, messages) or UNSET,
        updated_at=later(terms.clock(), head.updated_at),
        active_at=UNSET,
        question=head.question or question_of(messages, head.message_count) or UNSET,
        **changes,
    )


_ASKS = b'"role":"user","content":"'
"""In the JSON of messages: a user's text. Where it is none of a message, but deeper within, nothing is lost by that."""


def _tail_json(history: History, kept: Pages, tail: list[Message]) -> bytes:
    """Return the JSON of the messages after the pages. Those in the stored head are copied, and not encoded again."""
    before = history.origin
    if before is None or kept.opened or history.is_changed:
        return write_messages(tail)
    stored, new = bytes(before.head.messages), tail[before.head.message_count - kept.messages :]
    if not _can_be_joined(stored):
        return write_messages(tail)
    return _joined(stored, write_messages(new)) if new else stored


def _can_be_joined(array: bytes) -> bool:
    """Return whether a JSON array is spelled as ours are; not one from another hand, with spaces or so."""
    return (array.startswith(b"[{") and array.endswith(b"}]")) or array == b"[]"


def _joined(array: bytes, added: bytes) -> bytes:
    """Return two JSON arrays of messages as one; there are some in the second."""
    return added if array == b"[]" else b"".join((memoryview(array)[:-1], b",", memoryview(added)[1:]))


def _checked_values(session: Session, before: StoredHead | None, limits: Limits) -> tuple[bytes, bytes]:
    """Return metadata and state as JSON, if a store can keep what a session has but its messages.

    A session whose values were changed directly, ``session.state["x"] = …``, is touched.
    """
    check_stored(session, STORED)
    values = vars(session)  # not the fields themselves, which would be made to check what is put in
    metadata, state = _object_json(values["metadata"], "metadata"), _object_json(values["state"], "state")
    if limits.are_narrow or len(metadata) > limits.state_bytes or len(state) > limits.state_bytes:
        if before is None or session.user_id != before.head.user_id:
            limits.check_id(session.session_id, "session_id")
            limits.check_id(session.user_id or "", "user_id")
        for name, text in (("metadata", metadata), ("state", state)):
            if before is None or text != bytes(before.head.metadata if name == "metadata" else before.head.state):
                limits.check_size(len(text), name, "state_bytes")
                limits.check_depth(values[name], name)
    if before and session.updated_at == before.head.updated_at:
        same = session.user_id == before.head.user_id and session.title == (before.head.title or None)
        if not same or _differ(metadata, before.head.metadata) or _differ(state, before.head.state):
            session.touch()
    return metadata, state


def _check_documents(draft: Draft, limits: Limits) -> None:
    """Raise if a document is larger than is kept, or a head names more pages than a session may have."""
    limits.check_size(len(draft.head), "session", "document_bytes")
    for name, text in draft.pages.items():
        limits.check_size(len(text), name, "document_bytes")
    if draft.pages and sum([run.pages for run in named_runs(draft.stored.head)]) > MAX_PAGES:
        problem = f"fill more than {MAX_PAGES} pages; prune() the branches, or go on in another session"
        raise InvalidValueError("messages", problem)


def check_messages(messages: Iterable[Message], limits: Limits) -> None:
    """Raise if a message is larger than is kept."""
    for each in messages:
        name = f"message {each.message_id!r}"
        limits.check_size(len(write_messages([each])) - 2, name, "message_bytes")
        limits.check_id(each.message_id, "message_id")
        for value in (each.content, each.metadata, each.tool_calls):
            limits.check_depth(value, name)


def _count_leading(known: int, before: int, messages: list[Message]) -> int:
    """Return how many of the first messages instruct the model: *known* of those *before*, and *messages* follow."""
    if known < before:
        return known
    for n, each in enumerate(messages):
        if not instructs(each.role):
            return before + n
    return before + len(messages)


def _question(history: History) -> tuple[int, str] | None:
    """Return the place and the first words of the first question. Of stored messages, the head knows it."""
    before, known, start = history.origin, history.question, 0
    if before and not history.is_changed:
        known, start = before.head.question or None, before.head.message_count - history.unloaded
    if known and (start or known[0] < history.unloaded):
        return known
    return question_of(history.log[start:], history.unloaded + start)


def _object_json(value: object, name: str) -> bytes:
    return b"{}" if value == {} else write(plain_object(value, name))


def _differ(written: bytes, stored: msgspec.Raw) -> bool:
    return written != bytes(stored) and bool(read(written) != read(bytes(stored)))


def _stored_line(session_id: str, line: Line, pages: dict[str, bytes]) -> Line:
    """Return a branch as it will be stored; its document joins *pages* if it is new."""
    if line.left is None:
        return line
    left, kept = line.left, kept_pages(session_id, line.left, line.left.first_change)
    summary: Summary | None = line.values["summary"]
    pages[branch_key(session_id, line.branch_id)] = write(
        {
            "format": FORMAT,
            "leading": _count_leading(left.leading, left.unloaded, left.log),
            "question": _question(left),
            "state": line.values["state"],
            "checkpoints": [each.to_dict() for each in line.values["checkpoints"]],
            "summary": None if summary is None else summary.to_dict(),
            "messages": [each.to_dict() for each in left.log[kept.messages - left.unloaded :]],
        }
    )
    return Line(msgspec.structs.replace(line.stored, sealed=tuple([run for run in kept.runs if run.pages])))


def _write_struct(document: msgspec.Struct) -> bytes:
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:  # a lone surrogate in an id
        fields = ((name.encode(), getattr(document, name)) for name in document.__struct_fields__)
        parts = ((k, bytes(v) if isinstance(v, msgspec.Raw) else write(v)) for k, v in fields if v is not UNSET)
        return b"{" + b",".join(b'"%b":%b' % each for each in parts) + b"}"


def write_head(head: Head, unknown: Mapping[str, Any]) -> bytes:
    """Return the text of a head, with fields of later releases."""
    written = _write_struct(head)
    return written[:-1] + b"," + write(dict(unknown))[1:] if unknown else written
