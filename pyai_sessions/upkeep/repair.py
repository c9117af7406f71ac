"""Checking a whole storage, and repairing it: `verify` and `reindex`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from pyai_sessions.documents.keys import encode_id, head_key, is_state, parts_of_reference, session_of_key
from pyai_sessions.documents.limits import time_left
from pyai_sessions.documents.listed import Place
from pyai_sessions.documents.reading import readable_head
from pyai_sessions.model.heads import microseconds
from pyai_sessions.sessions import forks, indexes
from pyai_sessions.sessions.attempts import until_done
from pyai_sessions.sessions.backend import Backend, Progress
from pyai_sessions.sessions.expiry import expired_forks
from pyai_sessions.upkeep import shared_state
from pyai_sessions.upkeep.aside import set_aside
from pyai_sessions.upkeep.damage import NOT_DECRYPTED, Problem, find_damage, repair_session
from pyai_sessions.values.checks import Clock

_TOGETHER = 1000
"""Keys of pages that are collected before they are checked."""

_FREEING = 0.5
"""Seconds within which a save removes the shared pages that its session no longer needs."""


@dataclass
class Verification:
    """The result of `verify`: the number of *sessions*, and the *problems* found. True if no problem is left."""

    sessions: int = 0
    problems: list[Problem] = field(default_factory=list[Problem])

    def __bool__(self) -> bool:
        return all(each.repaired for each in self.problems)


def reindex(backend: Backend, progress: Progress | None = None) -> int:
    """Correct the indexes while others write. Return the number of sessions."""
    count = 0
    for found, wrong in indexes.disagreeing(backend):
        _mend_indexes(backend, wrong)
        count += found
        if progress and found:
            progress(count)
    forks.relist(backend)
    return count


def _mend_indexes(backend: Backend, wrong: Mapping[str, list[Place]]) -> None:
    """Correct the index entries of sessions, each given with its *wrong* entries."""
    if not wrong:
        return
    with backend.storage.exclusive():
        changed = [each for each, stale in wrong.items() if not indexes.mend(backend, each, stale)]
    for each in changed:
        until_done(backend, each, lambda: indexes.mend(backend, each, wrong[each]) or None)  # noqa: B023 (called here)


def verify(backend: Backend, *, repair: bool, clock: Clock, progress: Progress | None = None) -> Verification:
    """Read everything, and report what is wrong. *repair* corrects what can be corrected."""
    verifying = _Verifying(backend, clock, repair=repair)
    for n, key in enumerate(backend.storage.keys(), start=1):
        if verifying.check(key) and progress:
            progress(verifying.report.sessions)
        if n % _TOGETHER == 0:
            verifying.check_pages()
    verifying.check_pages()
    verifying.check_references()
    verifying.check_indexes()
    return verifying.report


class _Verifying:
    """A verification in progress. Pages and references are collected, and checked many at a time."""

    def __init__(self, backend: Backend, clock: Clock, *, repair: bool) -> None:
        self.report = Verification()
        self._backend = backend
        self._clock = clock
        self._repair = repair
        self._pages: dict[str, set[str]] = {}
        self._references: list[str] = []
        self._aside: set[str] = set()
        """Sessions of which something was set aside, encoded as in keys."""

    def _add(self, problem: Problem, *, repaired: bool) -> None:
        self.report.problems.append(replace(problem, repaired=repaired))

    def check(self, key: str) -> bool:
        """Check the session or the state under a key, or collect the key; return whether it was a session's."""
        session_id = session_of_key(key)
        if session_id is not None:
            if key.startswith("forks/"):
                self._references.append(key)
            elif key != head_key(session_id):
                self._pages.setdefault(session_id, set()).add(key)
            else:
                self._check_session(session_id)
                return True
        elif key.startswith("state/") and is_state(key):
            self._check_state(key)
        elif key.startswith("unreadable/"):
            self._aside.add(key.split("/")[1])
        return False

    def _check_session(self, session_id: str) -> None:
        self.report.sessions += 1
        problems = list(find_damage(self._backend, session_id, self._clock))
        repair = self._repair and all(each.kind != "encryption" for each in problems)
        if problems and repair:
            repair = repair_session(self._backend, session_id, self._clock)
        problems += self._missing_references(session_id, repair=repair)
        for each in problems:
            self._add(each, repaired=repair)
        if repair and any(each.kind == "unreadable head" for each in problems):
            self._aside.add(encode_id(session_id))

    def _missing_references(self, session_id: str, *, repair: bool) -> Iterator[Problem]:
        """Find, and write, the references that a fork needs to protect the pages that it shares."""
        value = self._backend.head(session_id)
        stored = readable_head(value, session_id)
        missing = [] if stored is None else forks.missing_of_parents(self._backend.storage, stored)
        for each in missing if self._backend.head(session_id) == value else ():
            if repair and stored is not None:
                lives = time_left(stored.expires_at, self._clock)
                forks.put_reference(self._backend.storage, each.key, each.pages, stored.entry.expires, lives)
            yield Problem("missing reference", session_id, each.key)

    def _check_state(self, key: str) -> None:
        value = self._backend.storage.read([key]).get(key)
        err = None if value is None else shared_state.problem_of(self._backend, key, value)
        if err is not None:
            kind = "encryption" if isinstance(err, NOT_DECRYPTED) else "unreadable state"
            repaired = self._repair and kind != "encryption" and set_aside(self._backend.storage, [key])
            self._add(Problem(kind, "", f"{err.reason}: {key}"), repaired=repaired)

    def check_pages(self) -> None:
        """Report, and remove, those of the collected pages that no head or reference names."""
        doubted = {session_id: self._unneeded(session_id, keys)[0] for session_id, keys in self._pages.items()}
        self._pages.clear()
        wait = self._backend.settle or min(self._backend.settle_forks, _FREEING)
        if wait and any(doubted.values()):
            time.sleep(wait)  # a save in progress may be about to name them, or to remove them
        for session_id, keys in doubted.items():
            if not keys:
                continue
            orphans, value = self._unneeded(session_id, keys)
            repaired = bool(orphans) and self._repair and forks.drop(self._backend.storage, session_id, value, orphans)
            for key in orphans:
                self._add(Problem("orphan page", session_id, f"no head names it: {key}"), repaired=repaired)

    def _unneeded(self, session_id: str, keys: set[str] | list[str]) -> tuple[list[str], object | None]:
        """Return the stored pages among *keys* that no head or reference names, and the session's head."""
        value = self._backend.head(session_id)
        unneeded = forks.unreferenced(self._backend.storage, session_id, value, keys)
        found = self._backend.storage.read(unneeded) if unneeded else {}
        return [key for key in unneeded if key in found], value

    def check_references(self) -> None:
        """Report, and remove, references whose forks are gone.

        References of forks that were set aside stay: someone may repair such a fork by hand, and then needs the pages.
        Those of forks that expired, and that the storage then removed, are no problem: `purge_expired` removes them.
        """
        self._references.sort(key=lambda key: parts_of_reference(key)[1])  # so that the head of each fork is read once
        suspects: list[str] = []
        for batch in indexes.batches(self._references):
            suspects += self._unexpired(forks.dead_references(self._backend, batch))
        suspects = [each for each in suspects if encode_id(parts_of_reference(each)[1]) not in self._aside]
        if suspects and self._backend.settle_forks:
            time.sleep(self._backend.settle_forks)  # a fork writes its references before its head
            suspects = self._unexpired(forks.dead_references(self._backend, suspects))
        for key in suspects:
            owner, fork, _ = parts_of_reference(key)
            if self._repair:
                forks.free_pages(self._backend, owner, [key])
            self._add(Problem("orphan reference", fork, f"its fork is gone: {key}"), repaired=self._repair)

    def _unexpired(self, references: list[str]) -> list[str]:
        expired = set(expired_forks(self._backend.storage, references, microseconds(self._clock())))
        return [each for each in references if each not in expired]

    def check_indexes(self) -> None:
        """Report, and correct, index entries that do not agree with the heads."""
        wrong: set[str] = set()
        for _, batch in indexes.disagreeing(self._backend, self._clock):
            wrong.update(batch)
            if self._repair:
                _mend_indexes(self._backend, batch)
        if self._repair:
            forks.relist(self._backend)
        for each in sorted(wrong):
            self._add(Problem("index", each, "its index entries do not fit its document"), repaired=self._repair)
