"""What a storage does: documents under keys, ordered lists, one write that is all or nothing.

A storage knows nothing of sessions. It keeps *documents*, texts under keys, and *lists*, whose members stand in the
order of their scores. Lists follow from the documents, so they can be made anew from them.

A key is ``kind/place/rest``, or ``kind/place``; all parts are percent-encoded. What one `Change` touches lies in one
*place*: a hash of Redis, a slot of a cluster. A key of a namespace has ``namespace/<name>/`` before that, and so have
the names of its lists. `pyai_sessions.storage.names.place_of` returns the place of any key; foreign keys without a
slash share one. No document lies under a key that ends with a slash: that names all below.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from typing_extensions import Self

Position = tuple[int, str]
"""Where a member stands in a list: its score, then the member. No two positions of a list are equal."""


class Held(tuple[int, str]):  # noqa: SLOT001 (a tuple has no slots)
    """A position of which the storage has the document at hand: its list gave both. *read* returns that."""

    read: Callable[[], object]

    def __new__(cls, position: Position, read: Callable[[], object]) -> Self:  # noqa: D102
        made = super().__new__(cls, position)
        made.read = read
        return made


Listed = tuple[str, str, int]
"""A list, a member of it, and the member's score."""

Derive = Callable[[str, Callable[[], object]], Iterable[Listed]]
"""Returns what lists hold because of the document under a key; storages call it for documents that others wrote.

It calls its second argument to get the document, as `Storage.read` returns it, and only where a document under such a
key can be listed: all others are not read. It raises nothing for a document that it cannot read, which is not listed.
"""


class Listing(NamedTuple):
    """A change of one list: *member* is to stand at the score *new*, or not to be listed (None).

    *old* is where the writer believes it to stand (None: nowhere). A storage may use it to save work; the result must
    be right where it is wrong. Where lists lie `apart` from the documents, *old* must be right: a member goes, or goes
    back, only from there, lest it be taken away from where another writer listed it meanwhile.
    """

    list: str
    member: str
    old: int | None
    new: int | None


class Change(NamedTuple):
    """One step in one place, all or nothing. It names at least one key, which tells the place.

    Args:
        expect: Keys, and how the document under each must begin (None: there must be none; "": there must be one). If
            one does not, the change is not applied.
        done: If the document of the first expected key begins so, the change was applied before: it counts as
            applied, and changes nothing again.
        put: Keys and their new documents, written in this order. A document is text in UTF-8, or a value as `read`
            returned it.
        drop: What is then removed, in this order: keys, and everything below those that end with a slash.
        lists: What then changes in lists, each member of a list once. A storage that makes its lists of the documents
            may forget what no document says.
        lives: Milliseconds that the place is kept from now on at the least, where a storage forgets by itself; 0 leaves
            that as it is, None keeps it for ever.

    """

    expect: Sequence[tuple[str, str | None]] = ()
    done: str | None = None
    put: Sequence[tuple[str, object]] = ()
    drop: Sequence[str] = ()
    lists: Sequence[Listing] = ()
    lives: int | None = 0


class Storage(ABC):
    """One kind of storage.

    All methods may be called from any thread. Each raises a `StorageError` where the storage fails; after one that was
    raised by `write`, the changes may or may not be stored, and may be written again.
    """

    threads = 8
    """How many calls at the same time are worth a thread each."""

    together = 1
    """How many calls of an event loop's tasks are worth joining into one trip."""

    ordered = True
    """Whether what lies below a key (``kind/place/``) is found without a walk through all keys."""

    forgets = False
    """Whether the storage forgets a place by itself once its time (`Change.lives`) is over."""

    apart = False
    """Whether lists lie on other servers than documents. A list then lacks nothing that is there, but may for a while
    hold what is not, or at a score that it no longer has; and for good where a writer's `Listing.old` was wrong."""

    paged = True
    """Whether a session's older messages lie in documents beside its head. Else the head has all of them."""

    padded = 0
    """Bytes to which a document that is written again and again is best filled up, if its end may be spaces: it is then
    written where it lies."""

    settle = 0.0
    """Seconds after which no writer is still at work on what was seen before: on lists or on what no document names."""

    @abstractmethod
    def read(self, keys: Sequence[str]) -> dict[str, object]:
        """Return the documents under keys, in one trip; a key without a document is left out.

        For a key that ends with a slash it returns all documents below, where the storage is `ordered`. Else it returns
        none; `keys` tells what lies there, and `exclusive` makes both one moment. The documents of one place are of one
        moment. A document is returned as the storage holds it, text or bytes, or whatever another program put there.
        """

    @abstractmethod
    def write(self, changes: Sequence[Change]) -> list[bool]:
        """Apply changes, each whole or not at all, in one trip or transaction; return of each whether it is applied.

        Several may be of one place: a change that expects what an earlier one of them replaced is not applied. When
        `write` returns, they are stored as durably as the storage promises.
        """

    @abstractmethod
    def keys(self, prefix: str = "") -> Iterator[str]:
        """Iterate over the keys that begin with *prefix*, foreign ones too, in no order, in bounded memory.

        A key may come twice. One that is written or removed meanwhile may come or not.
        """

    @abstractmethod
    def scan(
        self, name: str, after: Position | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[Position]:
        """Return the next positions of a list, from the lowest score on, or from the highest with *newest_first*.

        They may be more than *limit* where they are all that follow.
        """

    @abstractmethod
    def count(self, name: str) -> int:
        """Return how many members a list has."""

    @abstractmethod
    def listings(self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = "") -> Iterator[Listed]:
        """Iterate over what lists hold whose names begin with *prefix*, in no order, in bounded memory.

        Or over what they hold *of* these lists and members alone. One that moves meanwhile may come twice, or not.
        Lists with other names cost nothing, where the storage is `ordered`.
        """

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep other writers out meanwhile, where the storage can; all that is written inside is then one step.

        A change inside still compares. Where the storage cannot, this is left as it is.
        """
        return nullcontext()

    def mend(self) -> None:  # noqa: B027 (where nothing is held, nothing is to be mended)
        """End what a call of this thread left open when an exception from outside cut it off. Raises nothing."""

    def close(self) -> None:  # noqa: B027 (what opened nothing has nothing to close)
        """Free what was opened here. After this `close` and `mend` do nothing, other calls raise StorageClosedError."""
