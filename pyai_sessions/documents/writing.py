"""Session → documents: what a save is to write, and where.

Nothing here reads or writes a storage: a draft says what a commit compares, writes and removes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from pyai_sessions.documents.keys import branch_key, next_page_key, page_keys
from pyai_sessions.documents.limits import KEPT, Limits, Terms
from pyai_sessions.documents.reading import MAX_PAGES, origin_of, read_messages, write_messages
from pyai_sessions.documents.unpaged import told_by_content
from pyai_sessions.errors import InvalidValueError
from pyai_sessions.model.conversation import later
from pyai_sessions.model.fields import check_status, check_stored
from pyai_sessions.model.heads import (
    FORMAT,
    Entry,
    Head,
    Run,
    StoredHead,
    branch_runs,
    extent,
    kept_gaps,
    microseconds,
    named_runs,
    owners_of,
    stamp_of_head,
    with_page,
)
from pyai_sessions.model.history import History, Line, Origin
from pyai_sessions.model.points import Summary
from pyai_sessions.model.session import STORED, Session, history_of
from pyai_sessions.prompts.formats.parts import instructs
from pyai_sessions.prompts.windows import begins
from pyai_sessions.values.json import plain_object, read, write
from pyai_sessions.values.messages import Message
from pyai_sessions.values.tokens import new_token

PAGE_MESSAGES = 32
PAGE_BYTES = 8 * 1024
"""A tail of more messages or bytes of JSON than this is sealed into pages of at most so much.

Measured on SQLite: with 16 KiB a turn costs a sixth more, with 4 KiB no less, and loading costs the same with each.
"""


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
    stored: StoredHead
    """The head as it will be read."""
    entry: Entry
    pages: dict[str, bytes]
    garbage: list[str]
    leftovers: list[str]
    owners: tuple[str, ...]
    """The other sessions whose pages the head names."""
    time_left: int | None
    """Milliseconds after which a storage that can may forget the session; None leaves that as it is."""

    @property
    def stamp(self) -> str:
        """How the head begins."""
        return self.stored.stamp


class SessionDraft(Draft, frozen=True):
    """The draft of a session in hand, with what its history knows of the store once it is stored."""

    origin: Origin
    page_sizes: list[int]
    branches: list[Line]


def compose(session: Session, terms: Terms = KEPT) -> SessionDraft:  # noqa: PLR0915
    """Return the documents that store *session* as it is now. Nothing of *session* changes but ``updated_at``.

    Costs the tail, metadata and state, not the conversation's length. New pages are composed when the tail is full.

    Raises:
        InvalidValueError: Something in the session cannot be stored; the error names it.

    """
    history = history_of(session)
    origin = history.origin
    before = origin.head if origin else None
    check_stored(session, STORED)
    values = vars(session)  # not the fields themselves, which would be made to check what is put in
    metadata, state = _object_json(values["metadata"], "metadata"), _object_json(values["state"], "state")
    limits = terms.limits
    narrow = limits.are_narrow
    if narrow or len(metadata) > limits.state_bytes or len(state) > limits.state_bytes:
        _check_values(session, metadata, state, origin, limits)
    checkpoints = write([each.to_dict() for each in session.checkpoints]) if session.checkpoints else b"[]"
    activity = microseconds(session.updated_at)
    if origin and activity == origin.entry.activity and _is_changed(session, origin.head, metadata, state):
        session.touch()  # it was changed directly: session.state["x"] = …
        activity = microseconds(session.updated_at)

    if history.incarnation is None:
        history.incarnation = new_token(6)  # kept: a save that is tried again creates no other
    plan = _plan_pages(session.session_id, history)
    tail = history.log[plan.kept - history.unloaded :]
    tail_json = _tail_json(history, plan, tail)
    if narrow or len(tail_json) > limits.message_bytes:
        _check_messages(tail[max(0, _stored_unchanged(history) - plan.kept) :], limits)
    pages: dict[str, bytes] = {}
    runs, page_sizes = plan.runs, plan.sizes
    gaps = kept_gaps(before, sum([run.pages for run in runs])) if before and history.line is None else ()
    sealed_now = 0
    # A new session is "forked" where it shares pages of a former one of its own id.
    forked = origin.stored.is_forked if origin else session.session_id in {run.owner for run in history.line or ()}
    if terms.paged and len(tail) > 1 and (len(tail) > PAGE_MESSAGES or len(tail_json) > PAGE_BYTES):
        chunks, tail = _chunks(tail)
        tail_json = write_messages(tail)
        run = runs[-1]
        for chunk, text in chunks:
            pages[next_page_key(run)] = text
            page, message = sum([each.pages for each in runs[:-1]]) + run.pages, plan.kept + sealed_now
            gaps = with_page(gaps, page, message, has_turn=any(map(begins, chunk)))
            sealed_now += len(chunk)
            run = Run(run.owner, run.generation, run.pages + 1, run.messages + len(chunk))
        runs = [*runs[:-1], run]
        page_sizes = [*page_sizes, *(len(chunk) for chunk, _ in chunks)]

    lines = [_stored_line(session.session_id, each, pages) for each in history.branches] if history.branches else []
    garbage: list[str] = []
    dropped: tuple[str, ...] = ()
    if origin and (plan.opened or tuple(lines) != origin.branches):
        left = [run for each in lines for run in branch_runs(session.session_id, each.stored)]
        garbage, dropped = _no_longer_named(session.session_id, origin, [*runs, *left])
    leading = _count_leading(history.leading, history.unloaded, history.log)
    expires_at = terms.end(origin.stored.expires_at if origin else None, new=origin is None)
    head = Head(
        FORMAT,
        new_token(12),
        session.session_id,
        session.user_id,
        check_status(session.status),
        session.created_at,
        session.updated_at,
        expires_at or UNSET,
        history.count,
        history.incarnation,
        new_token(6) if before is None or history.rewritten_from is not None else before.edition,
        # An open run without pages is worth a word after a rewriting alone: pages must not continue the former run.
        tuple([run for run in runs if run.pages or plan.opened or (before and run in before.sealed)]),
        () if forked else dropped,
        tuple([each.stored for each in lines]) if lines else UNSET,
        leading or UNSET,
        gaps or UNSET,
        UNSET if session.summary is None else msgspec.Raw(write(session.summary.to_dict())),
        forked or UNSET,
        UNSET if session.parent is None else session.parent.to_dict(),
        msgspec.Raw(metadata),
        msgspec.Raw(state),
        msgspec.Raw(checkpoints),
        msgspec.Raw(tail_json),
    )
    if not terms.paged:
        head = told_by_content(head, session.unknown_fields, new=before is None)
    text, named = write_head(head, session.unknown_fields), named_runs(head)
    stored = StoredHead(head, stamp_of_head(head), session.unknown_fields)
    expires = microseconds(expires_at) if expires_at else None
    entry = Entry(head.session_id, head.user_id, head.status, activity, expires)
    _check_documents(text, pages, named, limits)
    return SessionDraft(
        session_id=session.session_id,
        expected=origin.stored.stamp if origin else None,
        previous=origin.entry if origin else None,
        head=text,
        stored=stored,
        entry=entry,
        pages=pages,
        garbage=[] if forked else garbage,
        leftovers=_leftovers(runs[-1], before),
        owners=owners_of(named, head.session_id),
        time_left=terms.left(expires_at),
        origin=origin_of(stored, entry, named, history.count, history.log[-1] if history.log else None),
        page_sizes=page_sizes,
        branches=lines,
    )


def amend(
    stored: StoredHead, terms: Terms = KEPT, *, pages: Mapping[str, bytes] | None = None, **changes: Any
) -> Draft:
    """Return the documents that store a session with other fields in its head, unseen the messages.

    *changes* are fields of `Head`; *pages* are new ones that those name.
    """
    old, expires_at = stored.head, terms.end(stored.expires_at, new=False)
    changes["expires_at"] = expires_at or UNSET
    head = msgspec.structs.replace(old, revision=new_token(12), dropped=(), **changes)
    if not terms.paged:
        head = told_by_content(head, stored.unknown, new=False)
    run = head.sealed[-1] if head.sealed else Run(old.session_id, old.incarnation or "0", 0, 0)
    now = StoredHead(head, stamp_of_head(head), stored.unknown)
    return Draft(
        session_id=head.session_id,
        expected=stored.stamp,
        previous=stored.entry,
        head=write_head(head, stored.unknown),
        stored=now,
        entry=now.entry,
        pages=dict(pages or {}),
        garbage=[],
        leftovers=_leftovers(run, old),
        owners=owners_of(named_runs(head), head.session_id),
        time_left=terms.left(expires_at),
    )


def appended(stored: StoredHead, messages: list[Message], chosen: list[Message], terms: Terms) -> Draft | None:
    """Return the documents that store a session with *messages* appended, unseen those that it has.

    A tail that is full becomes a page as it is. None where the messages have to be seen: there is too much for a page,
    or the tail may hold the id of one of *chosen*, those of the messages whose ids were not drawn.
    """
    head, tail, added = stored.head, bytes(stored.head.messages), write_messages(messages)
    count = head.message_count - stored.sealed
    if count < 0 or max(count, len(messages)) > PAGE_MESSAGES or max(len(tail), len(added)) > PAGE_BYTES:
        return None
    if not terms.paged or b"\\u" in tail or not _can_be_joined(tail):
        return None  # written by another hand: ids may be spelled in other ways
    for each in chosen:
        if not each.message_id.isascii() or write(each.message_id) in tail:
            return None
    if len(added) > terms.limits.message_bytes or terms.limits.are_narrow:
        _check_messages(messages, terms.limits)
    pages, sealed, gaps = {}, head.sealed, head.gaps
    if not count or (count + len(messages) <= PAGE_MESSAGES and len(tail) + len(added) <= PAGE_BYTES):
        added = _joined(tail, added)
    elif terms.limits.are_narrow or sum([run.pages for run in named_runs(head)]) >= MAX_PAGES:
        return None
    else:
        *former, run = _runs(head.session_id, head)
        pages = {next_page_key(run): tail}
        key = next(iter(pages))
        has_turn = _ASKS in tail or any(map(begins, read_messages(tail, key, head.session_id)))
        gaps = with_page(head.gaps or (), stored.pages, stored.sealed, has_turn=has_turn) or UNSET
        sealed = (*former, Run(run.owner, run.generation, run.pages + 1, run.messages + count))
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
    )


_ASKS = b'"role":"user","content":"'
"""In the JSON of messages: a user's text. Where it is none of a message, but deeper within, nothing is lost by that."""


def _tail_json(history: History, plan: _PagePlan, tail: list[Message]) -> bytes:
    """Return the JSON of the messages after the pages; what the stored head has of them is not written anew."""
    origin = history.origin
    if origin is None or plan.opened or history.rewritten_from is not None:
        return write_messages(tail)
    stored, new = bytes(origin.head.messages), tail[origin.message_count - plan.kept :]
    if not _can_be_joined(stored):
        return write_messages(tail)
    return _joined(stored, write_messages(new)) if new else stored


def _can_be_joined(array: bytes) -> bool:
    """Return whether a JSON array is spelled as ours are; not one from another hand, with spaces or so."""
    return (array.startswith(b"[{") and array.endswith(b"}]")) or array == b"[]"


def _joined(array: bytes, added: bytes) -> bytes:
    """Return two JSON arrays of messages as one; there are some in the second."""
    return added if array == b"[]" else b"".join((memoryview(array)[:-1], b",", memoryview(added)[1:]))


def _check_values(session: Session, metadata: bytes, state: bytes, origin: Origin | None, limits: Limits) -> None:
    """Raise if what is new of a session but its messages is larger than is kept."""
    if origin is None or session.user_id != origin.head.user_id:
        limits.check_id(session.session_id, "session_id")
        limits.check_id(session.user_id or "", "user_id")
    for name, text, value in (("metadata", metadata, session.metadata), ("state", state, session.state)):
        if origin is None or text != bytes(origin.head.metadata if name == "metadata" else origin.head.state):
            limits.check_size(len(text), name, "state_bytes")
            limits.check_depth(value, name)


def _check_documents(head: bytes, pages: Mapping[str, bytes], named: Iterable[Run], limits: Limits) -> None:
    """Raise if a document is larger than is kept, or a head names more pages than a session may have."""
    limits.check_size(len(head), "session", "document_bytes")
    for name, text in pages.items():
        limits.check_size(len(text), name, "document_bytes")
    if pages and sum([run.pages for run in named]) > MAX_PAGES:
        problem = f"fill more than {MAX_PAGES} pages; prune() the branches, or go on in another session"
        raise InvalidValueError("messages", problem)


def _stored_unchanged(history: History) -> int:
    """Return how many of the first messages are stored as they are."""
    if history.origin is None:
        return 0
    at = history.rewritten_from
    return history.origin.message_count if at is None else min(at, history.origin.message_count)


def _check_messages(messages: Sequence[Message], limits: Limits) -> None:
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


def _object_json(value: object, name: str) -> bytes:
    return b"{}" if value == {} else write(plain_object(value, name))


def _is_changed(session: Session, old: Head, metadata: bytes, state: bytes) -> bool:
    return session.user_id != old.user_id or _differ(metadata, old.metadata) or _differ(state, old.state)


def _differ(written: bytes, stored: msgspec.Raw) -> bool:
    return written != bytes(stored) and bool(read(written) != read(bytes(stored)))


class _PagePlan(NamedTuple):
    """Which pages stay and which go; the last of *runs* is open: new pages continue it."""

    runs: list[Run]
    kept: int
    """How many messages lie in the pages that stay."""
    sizes: list[int]
    """The sizes of those that are loaded."""
    opened: bool = False
    """Whether the open run is new, as pages of the former go."""


def _leftovers(run: Run, before: Head | None) -> list[str]:
    """Return where pages of saves that were cut short would begin: after an open run, or of the revision *before*."""
    found = [*(before.dropped if before else ()), f"{run.generation}/{run.pages}"]
    if before and before.revision and run.generation != before.revision:
        found.append(f"{before.revision}/0")
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
    if history.line is not None:
        runs = [*history.line, _open_run(session_id, origin)]
        return _PagePlan(runs, sum(run.messages for run in history.line), sizes, opened=True)
    runs, sealed = list(origin.head.sealed), origin.stored.sealed
    if at is None or at >= sealed:
        return _PagePlan(_runs(session_id, origin.head), sealed, sizes)
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
    return _PagePlan([*kept, _open_run(session_id, origin)], base, sizes[:kept_loaded], opened=True)


def _runs(session_id: str, head: Head) -> list[Run]:
    """Return the sealed pages that a head names, and last an open run: one of the session's own, which goes on."""
    runs = list(head.sealed)
    if not runs or runs[-1].owner != session_id:
        runs.append(Run(session_id, (head.revision if runs else "") or head.incarnation or "0", 0, 0))
    return runs


def _open_run(session_id: str, origin: Origin) -> Run:
    """Return a new run: a page is never written again with other messages, as a reader may hold the former head."""
    return Run(session_id, origin.head.revision or new_token(6), 0, 0)


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
