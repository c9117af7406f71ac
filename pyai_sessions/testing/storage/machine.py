"""A hypothesis machine that makes any sequence of calls on two storages of the same data, and compares with dicts."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pyai_sessions.storage.protocol import Change, Listing, Storage
from pyai_sessions.testing.storage.fixtures import all_positions, all_texts, document, read, start

PLACES = ["a", "A", "a0", "a."]
LISTS = ["active", "archived", "user/ada/active", "active/x"]
NAMES = ["1", "10", "1/0", "1/1", "10/0", "2/0"]
UNDERS = ["", "namespace/n/"]

places, unders = st.sampled_from(PLACES), st.sampled_from(UNDERS)
revisions = st.sampled_from(["1", "10", "2", "3"])
scores = st.integers(-3, 3) | st.sampled_from([2**53, -(2**53)])
listed = st.dictionaries(st.sampled_from(LISTS), scores, max_size=3)
pages = st.dictionaries(
    st.sampled_from(NAMES), st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3
)
dropped = st.lists(st.sampled_from([*NAMES, "1/", "10/", "2/", ""]), max_size=2)
hints = st.none() | scores
expectations = st.sampled_from(["as it is", "as it is", "as it is", "", None, "1", "10"])  # three in six are applied


class StorageMachine(RuleBasedStateMachine):
    """After any sequence of changes, a storage holds the same documents and lists as plain dicts.

    Two storages of the same data take turns. `StorageContract` makes a short run. For a longer one, return two empty
    storages of the same data from `open`::

        class MyMachine(StorageMachine):
            def open(self):
                path = tempfile.mkdtemp()
                return MyStorage(path, derive=derive), MyStorage(path, derive=derive)

        TestMyMachine = MyMachine.TestCase
    """

    def __init__(self) -> None:
        super().__init__()
        self.storages = self.open()
        self.texts: dict[str, str] = {}
        self.listed: dict[str, dict[str, int]] = {}
        self.last: Change | None = None
        self._turn = 0

    def open(self) -> tuple[Storage, Storage]:
        """Return two storages of the same data, empty."""
        msg = "a subclass of StorageMachine has a method `open` that returns two storages of one data, still empty"
        raise NotImplementedError(msg)

    @property
    def storage(self) -> Storage:
        """Return one of the two storages, and the other at the next call."""
        self._turn += 1
        return self.storages[self._turn % 2]

    @rule(
        under=unders,
        place=places,
        revision=revisions,
        expected=expectations,
        listed=listed,
        pages=pages,
        dropped=dropped,
        hint=hints,
    )
    def save(
        self,
        *,
        under: str,
        place: str,
        revision: str,
        expected: str | None,
        listed: dict[str, int],
        pages: dict[str, str],
        dropped: list[str],
        hint: int | None,
    ) -> None:
        """Put a document and pages, drop some pages, and list the member. The expectation may be wrong."""
        change = self.make(under, place, revision, expected, listed, pages=pages, dropped=dropped, hint=hint)
        self.write([change])
        self.last = change

    @rule(
        under=unders, chosen=st.lists(st.tuples(places, revisions, listed), unique_by=lambda each: each[0], max_size=4)
    )
    def save_many(self, under: str, chosen: list[tuple[str, str, dict[str, int]]]) -> None:
        """Save several places in one write. Some are refused."""
        expected = ("as it is", "2")
        self.write([self.make(under, each[0], each[1], expected[n % 2], each[2]) for n, each in enumerate(chosen)])

    @rule()
    def repeat(self) -> None:
        """Write the last change again."""
        if self.last is not None:
            lists = [each._replace(old=self.hint(each.list, each.member, each.old)) for each in self.last.lists]
            self.write([self.last._replace(lists=lists)])

    @rule(under=unders, place=places, expected=st.sampled_from(["as it is", "1"]), all_below=st.booleans())
    def delete(self, under: str, place: str, expected: str, *, all_below: bool) -> None:
        """Drop a document and its list entries, and its pages if *all_below*."""
        key = f"{under}doc/{place}"
        change = Change(
            expect=[(key, self.beginning(key, expected))],
            drop=[key, *([f"{under}page/{place}/"] if all_below else [])],
            lists=[Listing(under + name, place, self.hint(under + name, place), None) for name in LISTS],
        )
        self.write([change])

    @rule(place=places, prefix=st.sampled_from(["", "d", "doc/a", "page/a/", "page/a/1", "namespace/n/", "none"]))
    def look(self, place: str, prefix: str) -> None:
        """Read present and absent keys, and list keys by prefix."""
        keys = [f"doc/{place}", *(f"page/{place}/{name}" for name in NAMES)]
        assert read(self.storage, *keys) == {key: self.texts[key] for key in keys if key in self.texts}
        expected = sorted(key for key in self.texts if key.startswith(prefix))
        assert sorted(set(self.storage.keys(prefix))) == expected
        below = read(self.storage, f"page/{place}/")
        assert below == (self.below(f"page/{place}/") if self.storage.ordered else {})

    @invariant()
    def same(self) -> None:
        """Compare the documents and lists of the storage and the dicts."""
        assert all_texts(self.storage) == self.texts
        for name in [under + name for under in UNDERS for name in LISTS]:
            members = self.listed.get(name, {})
            expected = sorted((score, member) for member, score in members.items())
            assert all_positions(self.storage, name) == expected
            assert self.storage.scan(name, limit=3, newest_first=True) == expected[::-1][:3]
            assert self.storage.count(name) == len(expected)
        everything = [(name, *item) for name, members in self.listed.items() for item in members.items()]
        assert sorted(set(self.storage.listings())) == sorted(everything)

    def below(self, prefix: str) -> dict[str, str]:
        """Return the model's documents below a key."""
        return {key: text for key, text in self.texts.items() if key.startswith(prefix)}

    def beginning(self, key: str, expected: str | None) -> str | None:
        """Return the beginning that a change expects of a document."""
        if expected == "as it is":
            return self.texts.get(key)
        return start(expected) if expected else expected

    def hint(self, name: str, member: str, wrong: int | None = None) -> int | None:
        """Return the old score that a change names. It may be wrong unless lists lie `apart` from documents."""
        return self.listed.get(name, {}).get(member) if self.storages[0].apart else wrong

    def make(
        self,
        under: str,
        place: str,
        revision: str,
        expected: str | None,
        listed: dict[str, int],
        *,
        pages: dict[str, str] | None = None,
        dropped: Sequence[str] = (),
        hint: int | None = None,
    ) -> Change:
        """Return a change of a place. Its document names the lists that its member is in."""
        key = f"{under}doc/{place}"
        text = document(revision, *[(under + name, place, score) for name, score in listed.items()])
        return Change(
            expect=[(key, self.beginning(key, expected))],
            done=start(revision),
            put=[
                *[(f"{under}page/{place}/{name}", page.encode()) for name, page in (pages or {}).items()],
                (key, text),
            ],
            drop=[f"{under}page/{place}/{name}" for name in dropped],
            lists=[
                Listing(under + name, place, self.hint(under + name, place, hint), listed.get(name)) for name in LISTS
            ],
        )

    def write(self, changes: Sequence[Change]) -> None:
        """Write changes to the storage and to the model, and compare the answers."""
        assert self.storage.write(changes) == [self.apply(each) for each in changes]

    def apply(self, change: Change) -> bool:
        """Apply a change to the model."""
        first = self.texts.get(change.expect[0][0])
        if change.done is not None and first is not None and first.startswith(change.done):
            return True
        for key, expected in change.expect:
            text = self.texts.get(key)
            if (text is not None) if expected is None else (text is None or not text.startswith(expected)):
                return False
        self.texts |= {key: _text(value) for key, value in change.put}
        for each in change.drop:
            for key in self.below(each) if each.endswith("/") else [each]:
                self.texts.pop(key, None)
        for name, member, _, new in change.lists:
            members = self.listed.setdefault(name, {})
            if new is None:
                members.pop(member, None)
            else:
                members[member] = new
        return True


def _text(value: Any) -> str:
    return bytes(value).decode()
