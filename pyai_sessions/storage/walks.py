"""`Walk`: ends a walk through a damaged storage that would go in a circle."""

from __future__ import annotations

from pyai_sessions.errors import StorageCorruptError


class Walk:
    """A walk through a storage, batch by batch. Each batch begins where the one before ended.

    If the order of a damaged storage is broken, such a walk could go in a circle forever. It is stopped after three
    rounds at most: the ends of the 1st, 2nd, 4th, 8th batch are remembered, and must not come again.

    >>> walk = Walk("chat.db")
    >>> walk.reach("b")
    >>> walk.reach("b")
    Traceback (most recent call last):
    pyai_sessions.errors.StorageCorruptError: chat.db: reading it comes back to where it was before; ...
    """

    def __init__(
        self, where: str, remedy: str = "run SQLite's REINDEX on its file, or restore it from a backup"
    ) -> None:
        self._where = where
        self._remedy = remedy
        self._met: object = None
        self._batches, self._due = 0, 1

    def reach(self, place: object) -> None:
        """Note where a batch ended.

        Raises:
            StorageCorruptError: An earlier batch ended there, too.

        """
        if place == self._met:
            problem = "reading it comes back to where it was before"
            raise StorageCorruptError(self._where, problem, self._remedy)
        self._batches += 1
        if self._batches == self._due:
            self._met, self._due = place, 2 * self._due
