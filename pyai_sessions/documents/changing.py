"""Changing one message of a page: only that page is read and written anew, all other pages stay."""

from __future__ import annotations

from msgspec import UNSET

from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.pages import OtherPage, fresh_run, no_longer_named, with_other_pages
from pyai_sessions.documents.writing import Draft, amend, check_messages
from pyai_sessions.model.conversation import later
from pyai_sessions.model.heads import StoredHead, branch_runs
from pyai_sessions.model.titles import question_of
from pyai_sessions.prompts.formats.parts import instructs
from pyai_sessions.values.messages import Message, is_rated


def changed(
    stored: StoredHead, place: tuple[int, int], page: list[Message], new: Message | None, terms: Terms
) -> Draft | None:
    """Return the documents that store a session with *new* in the place of a message, or without that message (None).

    Its *place* is the number of its *page*, and how many messages of that page precede it. None where other messages
    must be seen: if what the head says of those that instruct, or of the first question, may change.
    """
    number, offset = place
    head, old, pages = stored.head, page[offset], dict[str, bytes]()
    if not terms.paged or head.message_count < 0 or _concerns_the_head(stored, number + offset, old, new):
        return None
    if new is not None:
        check_messages([new], terms.limits)
    messages = [*page[:offset], *([] if new is None else [new]), *page[offset + 1 :]]
    others = {number: OtherPage(len(page), messages)}
    sealed, gaps, _ = with_other_pages(head, others, fresh_run(stored), pages)
    garbage, dropped = list[str](), tuple[str, ...]()
    if not stored.is_forked:
        left = [run for each in head.branches or () for run in branch_runs(head.session_id, each)]
        garbage, dropped = no_longer_named(stored, [*sealed, *left])
    is_active = new is None or not is_rated(old, new)
    return amend(
        stored,
        terms,
        pages=pages,
        rewritten=True,
        active=is_active,
        garbage=garbage,
        dropped=dropped,
        sealed=tuple(sealed),
        gaps=gaps or UNSET,
        message_count=head.message_count - (new is None),
        updated_at=later(terms.clock(), head.updated_at),
        active_at=UNSET if is_active else stored.active_at,
    )


def _concerns_the_head(stored: StoredHead, first: int, old: Message, new: Message | None) -> bool:
    """Return whether a change may concern what the head says of messages; *first* or more precede the message."""
    head = stored.head
    if new is not None and is_rated(old, new):
        return False
    if instructs(old.role) or (new is not None and instructs(new.role)):
        return True
    if new is None and (first <= (head.leading or 0) or head.summary is not UNSET):
        return True
    if not head.question:
        return new is not None and question_of([new], 0) is not None
    return first <= head.question[0]
