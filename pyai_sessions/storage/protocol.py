"""What a storage does: documents under keys, ordered lists, one write that is all or nothing.

A storage knows nothing of sessions. It keeps *documents*, which are texts under keys, and *lists*, whose members are
ordered by their scores. The lists follow from the documents and can be rebuilt from them.

A key is ``kind/place/rest`` or ``kind/place``; all parts are percent-encoded. One `Change` concerns one *place*: a hash
of Redis, a slot of a cluster. In a namespace, keys and the names of lists begin with ``namespace/<name>/``.
`pyai_sessions.storage.names.place_of` returns the place of a key; other programs' keys without a slash share one. No
document lies under a key that ends with a slash: such a key means everything below it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from typing_extensions import Self

from pyai_sessions.values.json import is_bytes

Position = tuple[int, str]
"""A member's place in a list: its score, then the member. No two positions of a list are equal."""


class Held(tuple[int, str]):  # noqa: SLOT001 (a tuple has no slots)
    """A position whose document was read with it: *read* returns the document without another round trip."""

    read: Callable[[], object]

    def __new__(cls, position: Position, read: Callable[[], object]) -> Self:  # noqa: D102
        made = super().__new__(cls, position)
        made.read = read
        return made


Listed = tuple[str, str, int]
"""A list, a member of it, and the member's score."""

Derive = Callable[[str, Callable[[], object]], Iterable[Listed]]
"""Returns the entries of lists that follow from the document under a key. Storages call it for documents that other
programs wrote.

The second argument returns the document, as `Storage.read` does. It is called only for keys whose documents can be
listed, so that no others are read. A document that cannot be read is not listed; it raises nothing.
"""


class Listing(NamedTuple):
    """A change of one list: *member* gets the score *new*, or is removed (None).

    *old* is the score that the writer believes it has (None: it is not listed). A storage may use that to save work;
    the result must be right even if *old* is wrong. The exception is a storage whose lists are `apart`: it removes a
    member, or lowers its score, only if the score is still *old*, since another writer may have listed the member anew.
    """

    list: str
    member: str
    old: int | None
    new: int | None


class Change(NamedTuple):
    """One step in one place, all or nothing. It names at least one key; all its keys are in that place.

    Args:
        expect: Keys, and how the document under each must begin. None: there must be none; "": there must be one. If a
            document is not as expected, nothing is applied.
        done: How the document under the first expected key begins if this change was applied before. The change then
            counts as applied, and nothing is written again.
        put: Keys and their new documents, written in this order. A document is text in UTF-8, or a value as `read`
            returned it.
        drop: Keys that are then removed, in this order. A key that ends with a slash means everything below it.
        lists: Changes of lists, applied last; no member of a list comes twice. A storage that rebuilds its lists from
            the documents may forget an entry that follows from no document.
        lives: Milliseconds for which a storage that `forgets` must keep the place from now on. 0 leaves its time as it
            is; None keeps it forever.

    """

    expect: Sequence[tuple[str, str | None]] = ()
    done: str | None = None
    put: Sequence[tuple[str, object]] = ()
    drop: Sequence[str] = ()
    lists: Sequence[Listing] = ()
    lives: int | None = 0

    def answer(self, get: Callable[[str], object]) -> bool | None:
        """Return what `Storage.write` answers if it need not apply the change; None if it must.

        *get* returns the document under a key, or None.

        >>> change = Change(expect=[("doc/a", "v1")], done="v2")
        >>> [change.answer({"doc/a": each}.get) for each in (b"v1: text", b"v2: text", b"v3: text")]
        [None, True, False]
        """
        done = self.done
        for key, start in self.expect:
            document = get(key)
            if done is not None and begins(document, done):
                return True
            if not begins(document, start):
                return False
            done = None  # the first document alone says so
        return None


def begins(document: object, start: str | None) -> bool:
    """Return whether a document begins with *start*; if *start* is None, whether there is no document."""
    if document is None or start is None:
        return document is start
    if type(document) is str:
        return document.startswith(start)
    if is_bytes(document):
        return bytes(document).startswith(start.encode("utf-8", "surrogatepass"))
    return str(document).startswith(start)


class Storage(ABC):
    """Keeps documents and lists.

    All methods may be called from any thread, and raise a `StorageError` if the storage fails. After an error from
    `write` the changes may or may not be stored; it is safe to write them again.
    """

    threads = 8
    """How many threads at most should call the storage at the same time."""

    together = 1
    """How many calls of an event loop's tasks should at most share one round trip."""

    ordered = True
    """Whether the storage finds what lies below ``kind/place/`` without looking at all keys."""

    forgets = False
    """Whether the storage itself removes a place when its time (`Change.lives`) is over."""

    apart = False
    """Whether lists lie on other servers than documents, so that they change in steps of their own. A list then has all
    that is stored, but for a while may also have what is gone, or an old score; for good if `Listing.old` was wrong."""

    paged = True
    """Whether the older messages of a session lie in documents beside its head; if not, the head holds all."""

    padded = 0
    """Bytes to which a document that is often written should be filled up with spaces: it then stays where it lies."""

    settle = 0.0
    """Seconds after which no write is under way any more. What looks left over may until then be part of one."""

    @abstractmethod
    def read(self, keys: Sequence[str]) -> dict[str, object]:
        """Return the documents under keys, in one round trip; a key without a document is left out.

        For a key that ends with a slash, a storage that is `ordered` returns all documents below. Others return none:
        `keys` tells what lies there, and `exclusive` keeps it as it is meanwhile. All documents of one place are read
        at the same moment. A document is text or bytes, as the storage holds it, or whatever another program put there.
        """

    @abstractmethod
    def write(self, changes: Sequence[Change]) -> list[bool]:
        """Apply changes in one round trip or transaction, each whole or not at all; return which are applied.

        Several may concern one place. They are applied in order, so a change that expects what an earlier one replaced
        is not applied. When `write` returns, they are stored as durably as the storage promises.
        """

    @abstractmethod
    def keys(self, prefix: str = "") -> Iterator[str]:
        """Iterate over the keys that begin with *prefix*, those of other programs too, in any order, in bounded memory.

        A key may come twice. A key that is written or removed meanwhile may come or not.
        """

    @abstractmethod
    def scan(
        self, name: str, after: Position | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[Position]:
        """Return the next positions of a list, from the lowest score on, or from the highest with *newest_first*.

        It may return more than *limit* if these are all that follow.
        """

    @abstractmethod
    def count(self, name: str) -> int:
        """Return how many members a list has."""

    @abstractmethod
    def listings(self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = "") -> Iterator[Listed]:
        """Iterate over the entries of lists whose names begin with *prefix*, in any order, in bounded memory.

        With *of*, iterate over the entries of these lists and members alone. An entry whose score changes meanwhile may
        come twice, or not at all. In a storage that is `ordered`, lists with other names cost nothing.
        """

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep other writers out. All that is written inside is one step; changes still compare what they expect.

        A storage that cannot do that leaves this method as it is: it does nothing.
        """
        return nullcontext()

    def mend(self) -> None:  # noqa: B027 (where nothing is held, nothing is to be mended)
        """Release what an interrupted call of this thread left open. Raises nothing."""

    def close(self) -> None:  # noqa: B027 (what opened nothing has nothing to close)
        """Free what the storage opened. Then `close` and `mend` do nothing; other calls raise StorageClosedError."""
