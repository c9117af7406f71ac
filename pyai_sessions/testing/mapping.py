"""The contract of a mapping of text: what sessions need of whatever they are stored in."""

from typing import Any

import pytest

from pyai_sessions.testing.machines import MappingMachine, run_short
from pyai_sessions.testing.rules import Contract
from pyai_sessions.testing.samples import KEYS, VALUES


class MappingContract(Contract):
    """What `[k]`, `[k] = v`, `del` and `iter` do, with keys and values of any text.

    Subclass it, and give it a fixture `mapping`: an empty one::

        class TestMyMapping(MappingContract):
            @pytest.fixture
            def mapping(self, tmp_path):
                return MyMapping(tmp_path)

    One whose items outlive the object subclasses `PersistentMappingContract`. Where the storage cannot hold some text
    as a key, ``takes_key(text)`` says so; the mapping must then raise, and never take one key for another.
    """

    def takes_key(self, text: str) -> bool:
        """Return whether the storage takes a text as a key; all of up to a KiB, if not overridden."""
        return True

    @property
    def keys(self) -> list[str]:
        """Keys that look alike, or mean something to some storage, as far as this one takes them."""
        return [each for each in KEYS.values() if self.takes_key(each)]

    @pytest.fixture
    def mapping(self) -> Any:
        """Return the mapping under test, still empty."""
        msg = "a subclass of MappingContract has a fixture `mapping` that gives an empty mapping"
        raise NotImplementedError(msg)

    def test_a_new_mapping_is_empty(self, mapping: Any) -> None:
        """The fixture gives an empty mapping, or the other tests would prove nothing."""
        assert list(mapping) == []

    def test_keys_and_values_are_kept_as_they_are(self, mapping: Any) -> None:
        """Any text is a key and any text a value, and both come back unchanged, as text."""
        pairs = [*((key, "value") for key in self.keys), *(("key", value) for value in VALUES.values())]
        for key, value in pairs:
            mapping[key] = value

            assert mapping[key] == value
            assert type(mapping[key]) is str
            assert list(mapping) == [key]

            del mapping[key]

    def test_no_key_is_taken_for_another(self, mapping: Any) -> None:
        """Keys that look alike are different items."""
        for key in self.keys:
            mapping[key] = f"the value of {key}"

        assert sorted(mapping) == sorted(self.keys)
        assert {key: mapping[key] for key in mapping} == {key: f"the value of {key}" for key in self.keys}

    def test_deleting_a_key_leaves_those_that_look_like_it(self, mapping: Any) -> None:
        """One item goes, and no other."""
        for key in self.keys:
            mapping[key] = key

        gone = self.keys[::2]
        for key in gone:
            del mapping[key]

        assert sorted(mapping) == sorted(set(self.keys) - set(gone))

    def test_a_key_that_the_storage_does_not_take_is_refused(self, mapping: Any) -> None:
        """It raises, whatever the exception, and nothing is stored under another key."""
        for key in set(KEYS.values()) - set(self.keys):
            with pytest.raises(Exception):  # noqa: B017, PT011 (it is the storage's own)
                mapping[key] = "value"

        assert list(mapping) == []

    def test_an_absent_key_raises_key_error(self, mapping: Any) -> None:
        """Reading what is not there raises KeyError: neither None nor an empty text."""
        mapping["key"] = "value"

        with pytest.raises(KeyError):
            mapping["other"]

    def test_deleting_an_absent_key_raises_key_error(self, mapping: Any) -> None:
        """So does deleting it, and the others stay."""
        mapping["key"] = "value"

        with pytest.raises(KeyError):
            del mapping["other"]

        assert list(mapping) == ["key"]

    def test_a_deleted_key_is_absent(self, mapping: Any) -> None:
        """What was deleted can neither be read nor found by iterating, nor deleted again."""
        mapping["key"] = "value"

        del mapping["key"]

        assert list(mapping) == []
        with pytest.raises(KeyError):
            mapping["key"]
        with pytest.raises(KeyError):
            del mapping["key"]

    def test_a_deleted_key_can_be_set_again(self, mapping: Any) -> None:
        """Deleting leaves nothing behind that would hide a later value."""
        mapping["key"] = "before"
        del mapping["key"]

        mapping["key"] = "after"

        assert mapping["key"] == "after"

    def test_a_second_value_replaces_the_first(self, mapping: Any) -> None:
        """The latest value counts, and the key is there once."""
        mapping["key"] = "a longer first value"

        mapping["key"] = "second"

        assert mapping["key"] == "second"
        assert list(mapping) == ["key"]

    def test_a_big_value_is_kept_whole(self, mapping: Any) -> None:
        """A value of a megabyte is one value, and can shrink again."""
        big = '{"content":"' + "h\u00e9llo \U0001f600 " * 70_000 + '"}'
        mapping["key"] = big

        assert mapping["key"] == big

        mapping["key"] = "small"

        assert mapping["key"] == "small"

    def test_iteration_gives_each_of_many_keys_once(self, mapping: Any) -> None:
        """A thousand and more items: more than one batch of any storage."""
        keys = [f"session/{n:04}" for n in range(1100)]
        for key in keys:
            mapping[key] = "v"

        assert sorted(mapping) == keys

    def test_it_behaves_as_a_dict(self, mapping: Any) -> Any:
        """After any sequence of writes, deletions and reads it holds what a dict holds."""
        takes_key = self.takes_key

        class Machine(MappingMachine):
            def takes_key(self, text: str) -> bool:
                return takes_key(text)

            def open(self) -> Any:
                for key in list(mapping):
                    del mapping[key]
                return mapping

        run_short(Machine)


class PersistentMappingContract(MappingContract):
    """That of a mapping whose items outlive the object.

    Besides `mapping` it needs a fixture `reopen`: a function that opens the same storage anew::

        class TestMyMapping(PersistentMappingContract):
            @pytest.fixture
            def mapping(self, reopen):
                return reopen()

            @pytest.fixture
            def reopen(self, tmp_path):
                return lambda: MyMapping(tmp_path)
    """

    @pytest.fixture
    def reopen(self) -> Any:
        """Return a function that opens the storage of `mapping` anew."""
        msg = "a subclass of PersistentMappingContract has a fixture `reopen`: a function that opens the storage anew"
        raise NotImplementedError(msg)

    def test_items_outlive_the_object(self, mapping: Any, reopen: Any) -> None:
        """Opened anew, the storage holds every key and value as they were."""
        items = {key: f"the value of {key}" for key in self.keys} | VALUES
        for key, value in items.items():
            mapping[key] = value

        other = reopen()

        assert {key: other[key] for key in other} == items

    def test_a_second_object_sees_each_change_at_once(self, mapping: Any, reopen: Any) -> None:
        """Two objects on one storage are one mapping: writes, replacements and deletions show in the other."""
        other = reopen()
        assert list(other) == []

        mapping["key"] = "first"
        assert other["key"] == "first"

        other["key"] = "second"
        assert mapping["key"] == "second"

        del mapping["key"]
        assert list(other) == []
        with pytest.raises(KeyError):
            other["key"]
