"""A guard that ends a walk through a damaged storage when it goes in a circle."""

from __future__ import annotations

from pyai_sessions.errors import StorageCorruptError


class Walk:
    """A walk through a storage, page by page. Each page begins where the page before ended.

    In a damaged storage, whose order is broken, such a walk could go in a circle for ever. The guard notices that after
    three rounds at most: it remembers the end of the 1st, 2nd, 4th, 8th page, which must not come again.

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
        self._pages, self._due = 0, 1

    def reach(self, place: object) -> None:
        """Note where a page ended.

        Raises:
            StorageCorruptError: The walk was there before.

        """
        if place == self._met:
            problem = "reading it comes back to where it was before"
            raise StorageCorruptError(self._where, problem, self._remedy)
        self._pages += 1
        if self._pages == self._due:
            self._met, self._due = place, 2 * self._due
