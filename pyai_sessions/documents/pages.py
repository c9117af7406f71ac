"""Sealed pages as they will be: which stay, which others take the place of, and how messages are cut into new ones."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import msgspec

from pyai_sessions.documents.keys import next_page_key, page_keys
from pyai_sessions.documents.reading import write_messages
from pyai_sessions.model.heads import (
    Gap,
    Head,
    Run,
    StoredHead,
    first_pages,
    kept_gaps,
    named_runs,
    page_numbers,
    with_page,
    with_page_of,
)
from pyai_sessions.model.history import History
from pyai_sessions.prompts.windows import begins
from pyai_sessions.values.messages import Message
from pyai_sessions.values.tokens import new_token

PAGE_MESSAGES = 32
PAGE_BYTES = 8 * 1024
"""A tail of more messages or bytes of JSON than this is sealed into pages of at most so much.

Measured on SQLite: with 16 KiB a turn costs a sixth more, with 4 KiB no less, and loading costs the same with each.
"""

_GROWN = 2 * PAGE_BYTES
"""A page whose messages were changed may grow to this before it becomes several: a rating splits no full page."""


class Pages(NamedTuple):
    """The pages of a session as they will be; the last of *runs* is open: new pages continue it."""

    runs: list[Run]
    messages: int
    """How many messages lie in them."""
    sizes: list[int]
    """The sizes of those that are loaded."""
    gaps: tuple[Gap, ...] = ()
    opened: bool = False
    """Whether pages of the stored head go; the open run may then be new, and is stored without pages, too."""


def kept_pages(session_id: str, history: History, at: int | None) -> Pages:
    """Return the stored pages that stay where the history is rewritten from message number *at* on (None: nowhere)."""
    before, sizes = history.origin, history.page_sizes
    if history.line is not None or before is None:
        fresh = Run(session_id, history.incarnation or "0", 0, 0) if before is None else fresh_run(before)
        line = history.line or ()
        return Pages([*line, fresh], sum([run.messages for run in line]), sizes, opened=bool(before or line))
    runs, messages = before.head.sealed, before.sealed
    if at is None or at >= messages:
        return Pages(open_runs(before.head), messages, sizes, before.head.gaps or ())
    ends = list(accumulate(sizes, initial=history.unloaded))
    kept_loaded = max(n for n, end in enumerate(ends) if end <= at)
    base = ends[kept_loaded]
    keep = sum(run.pages for run in runs) - len(sizes) + kept_loaded if base else 0
    gaps = kept_gaps(before.head, keep)
    return Pages([*first_pages(runs, keep, base), fresh_run(before)], base, sizes[:kept_loaded], gaps, opened=True)


def fresh_run(before: StoredHead) -> Run:
    """Return the run of the pages that a commit over a head begins.

    It is named by what it follows, so that a save that is tried again overwrites its own pages. A page is never written
    again with other messages, as a reader may hold the former head.
    """
    return Run(before.head.session_id, before.head.revision or new_token(6), 0, 0)


def open_runs(head: Head) -> list[Run]:
    """Return the sealed pages that a head names, and last an open run: one of the session's own, which goes on."""
    runs = list(head.sealed)
    if not runs or runs[-1].owner != head.session_id:
        runs.append(Run(head.session_id, (head.revision if runs else "") or head.incarnation or "0", 0, 0))
    return runs


def with_full_tail(kept: Pages, tail: list[Message], pages: dict[str, bytes]) -> tuple[Pages, bytes]:
    """Return the pages with those that a full tail fills, and the JSON of what is left of it; *pages* gets the texts.

    Pages are cut from the oldest message on; what is left is less than a page, or one message.
    """
    *former, run = kept.runs
    number, count, gaps = sum([each.pages for each in kept.runs]), kept.messages, kept.gaps
    texts, sizes, start = [write_messages([each])[1:-1] for each in tail], list[int](), 0
    for end in _ends(texts):
        pages[next_page_key(run)] = b"[%b]" % b",".join(texts[start:end])
        gaps = with_page(gaps, number, count, has_turn=any(map(begins, tail[start:end])))
        run = with_page_of(run, end - start)
        sizes.append(end - start)
        number, count, start = number + 1, count + end - start, end
    left = b"[%b]" % b",".join(texts[start:])
    return Pages([*former, run], count, [*kept.sizes, *sizes], gaps, kept.opened), left


def _ends(texts: Sequence[bytes]) -> Iterator[int]:
    """Iterate over the places at which messages are cut into pages; what follows the last is a page or less."""
    start = size = 0
    for n, text in enumerate(texts):
        if n > start and (n - start == PAGE_MESSAGES or size + len(text) > PAGE_BYTES - 2):
            yield n
            start, size = n, 0
        size += len(text) + 2


def no_longer_named(before: StoredHead, runs: Iterable[Run]) -> tuple[list[str], tuple[str, ...]]:
    """Return the pages of its own that the stored head names and *runs* do not, last first, and where they begin.

    That is ``generation/number``: where one or more of them follow a page that stays, or are the first.
    """
    session_id, after = before.head.session_id, page_numbers(runs)
    garbage: list[str] = []
    dropped: list[str] = []
    for run in named_runs(before.head):
        if run.owner == session_id:
            for gone in _without(range(run.start, run.end), after.get((session_id, run.generation), ())):
                garbage += page_keys([_part(run, gone.start - run.start, len(gone))])
                dropped.append(f"{run.generation}/{gone.start}")
    return garbage[::-1], tuple(dropped)


def _without(numbers: range, others: Iterable[range]) -> list[range]:
    """Return what is left of *numbers* without those of *others*, in order."""
    left = [numbers] if numbers else []
    for each in others:
        parts = [
            (range(old.start, min(old.stop, each.start)), range(max(old.start, each.stop), old.stop)) for old in left
        ]
        left = [part for pair in parts for part in pair if part]
    return left


# Pages in the place of others -----------------------------------------------------------------------------------------


class OtherPage(NamedTuple):
    """What takes the place of a page that held so many messages *before*: these *messages*, or nothing."""

    before: int
    messages: list[Message]


def with_changed_pages(history: History, kept: Pages, pages: dict[str, bytes]) -> Pages:
    """Return the pages with others for those whose messages were changed one by one; *pages* gets the texts."""
    sizes, gone, others = kept.sizes, history.gone, dict[int, OtherPage]()
    ends = list(accumulate(sizes, initial=history.unloaded))
    unloaded = sum([run.pages for run in kept.runs]) - len(sizes)
    for n in {bisect_right(ends, each.place) - 1 for each in history.edits.values()} - {len(sizes)}:
        start, end = [each - history.unloaded - bisect_left(gone, each) for each in ends[n : n + 2]]
        others[unloaded + n] = OtherPage(sizes[n], history.log[start:end])
    if history.origin is None or not others:
        return kept
    fresh = fresh_run(history.origin)
    runs, gaps, made = with_other_pages(history.origin.head, others, fresh, pages)
    if not runs or runs[-1].owner != fresh.owner:
        runs.append(_part(fresh, sum(map(len, made.values())), 0))
    new = [size for n, each in enumerate(sizes, unloaded) for size in made.get(n, [each])]
    return Pages(runs, kept.messages - sum(sizes) + sum(new), new, gaps, opened=True)


def with_other_pages(
    head: Head, others: Mapping[int, OtherPage], fresh: Run, pages: dict[str, bytes]
) -> tuple[list[Run], tuple[Gap, ...], dict[int, list[int]]]:
    """Return a head's runs and gaps with *others* in the place of pages, by their numbers, and the sizes of these.

    All other pages stay. The new ones make up the run *fresh*, and *pages* gets their texts. Where the last page goes
    and none takes its place, *fresh* stays open: the number of that page must not be given again.
    """
    made = {n: _cut(others[n].messages) for n in sorted(others)}
    sizes = {n: [size for size, _ in cut] for n, cut in made.items()}
    runs, pieces = list[Run](), list[Run]()
    number = used = lost = 0
    for run in head.sealed:
        at = 0
        for n in [each - number for each in made if number <= each < number + run.pages]:
            cut = made[number + n]
            new = _part(fresh, used, len(cut))
            pages.update(zip(page_keys([new]), [text for _, text in cut], strict=True))
            pieces += [_part(run, at, n - at), new]
            at, used, lost = n + 1, used + len(cut), lost + others[number + n].before - sum(sizes[number + n])
        pieces.append(_part(run, at, run.pages - at))
        number += run.pages
        if run.messages:  # of a run in pieces, the last says how many there are in all
            pieces = _without_seams(pieces)
            if pieces:
                pieces[-1] = msgspec.structs.replace(pieces[-1], messages=run.messages - lost)
            runs, pieces, lost = runs + pieces, [], 0
    last = head.sealed[-1]
    if not last.pages:  # an open run
        runs.append(last)
    elif sizes.get(number - 1) == []:
        runs.append(_part(fresh, used, 0))
    gaps = head.gaps or ()
    for n in sorted(made, reverse=True):
        has_turn = any(map(begins, others[n].messages))
        gaps = _without_page(gaps, n, len(made[n]), others[n].before - sum(sizes[n]), has_turn=has_turn)
    return runs, gaps, sizes


def _without_seams(pieces: Iterable[Run]) -> list[Run]:
    """Return pieces of a run without those that have no pages, and those that go on where the one before ends."""
    found: list[Run] = []
    for each in pieces:
        last = found[-1] if found else None
        if last and (last.owner, last.generation, last.end) == (each.owner, each.generation, each.start):
            found[-1] = msgspec.structs.replace(last, pages=last.pages + each.pages)
        elif each.pages:
            found.append(each)
    return found


def _part(run: Run, number: int, pages: int) -> Run:
    """Return so many *pages* of a run, from its page *number* on, without its messages."""
    return msgspec.structs.replace(run, start=run.start + number, pages=pages, messages=0)


def _cut(messages: list[Message]) -> list[tuple[int, bytes]]:
    """Return the pages that messages fill: how many each has, and its text."""
    texts = [write_messages([each])[1:-1] for each in messages]
    if len(texts) <= PAGE_MESSAGES and sum(map(len, texts)) <= _GROWN:
        ends = [len(texts)] if texts else []
    else:
        ends = [*_ends(texts), len(texts)]
    return [(end - start, b"[%b]" % b",".join(texts[start:end])) for start, end in pairwise([0, *ends])]


def _without_page(gaps: tuple[Gap, ...], number: int, pages: int, lost: int, *, has_turn: bool) -> tuple[Gap, ...]:
    """Return the gaps once so many *pages* took the place of one; *has_turn* says whether a turn begins in these."""
    found: list[Gap] = []
    for each in gaps:
        if each.page > number:
            page, message = each.page + pages - 1, each.message - lost
            found.append(Gap(page, message, each.end + pages - 1))
        elif each.end <= number:
            found.append(each)
        elif not has_turn and each.end + pages - 1 > each.page:
            found.append(msgspec.structs.replace(each, end=each.end + pages - 1))
    return tuple(found)
