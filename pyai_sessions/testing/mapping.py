"""The contract of a mapping: what sessions need of the mapping that they are stored in."""

from typing import Any

import pytest

from pyai_sessions.testing.machines import MappingMachine, run_short
from pyai_sessions.testing.rules import Contract
from pyai_sessions.testing.samples import KEYS, VALUES


class MappingContract(Contract):
    """Tests `[k]`, `[k] = v`, `del` and `iter` of a mapping, with any text as key and value.

    Subclass it, and return an empty mapping from the fixture `mapping`::

        class TestMyMapping(MappingContract):
            @pytest.fixture
            def mapping(self, tmp_path):
                return MyMapping(tmp_path)

    If the items outlive the object, subclass `PersistentMappingContract`. If the storage cannot hold some text as a
    key, let ``takes_key(text)`` return False for it. The mapping must then raise, and never confuse two keys.
    """

    def takes_key(self, text: str) -> bool:
        """Return whether the storage accepts this text as a key. By default, every text of up to 1 KiB."""
        return True

    @property
    def keys(self) -> list[str]:
        """Return keys that look alike, or have a meaning in some storage, as far as the storage accepts them."""
        return [each for each in KEYS.values() if self.takes_key(each)]

    @pytest.fixture
    def mapping(self) -> Any:
        """Return the mapping under test, empty."""
        msg = "a subclass of MappingContract has a fixture `mapping` that gives an empty mapping"
        raise NotImplementedError(msg)

    def test_a_new_mapping_is_empty(self, mapping: Any) -> None:
        """The fixture returns an empty mapping. Otherwise the other tests would prove nothing."""
        assert list(mapping) == []

    def test_keys_and_values_are_kept_as_they_are(self, mapping: Any) -> None:
        """Any text can be a key and a value. Both come back unchanged, as text."""
        pairs = [*((key, "value") for key in self.keys), *(("key", value) for value in VALUES.values())]
        for key, value in pairs:
            mapping[key] = value

            assert mapping[key] == value
            assert type(mapping[key]) is str
            assert list(mapping) == [key]

            del mapping[key]

    def test_no_key_is_taken_for_another(self, mapping: Any) -> None:
        """Keys that look alike name different items."""
        for key in self.keys:
            mapping[key] = f"the value of {key}"

        assert sorted(mapping) == sorted(self.keys)
        assert {key: mapping[key] for key in mapping} == {key: f"the value of {key}" for key in self.keys}

    def test_deleting_a_key_leaves_those_that_look_like_it(self, mapping: Any) -> None:
        """Deleting a key removes one item and no other."""
        for key in self.keys:
            mapping[key] = key

        gone = self.keys[::2]
        for key in gone:
            del mapping[key]

        assert sorted(mapping) == sorted(set(self.keys) - set(gone))

    def test_a_key_that_the_storage_does_not_take_is_refused(self, mapping: Any) -> None:
        """Writing under such a key raises some exception, and stores nothing under another key."""
        for key in set(KEYS.values()) - set(self.keys):
            with pytest.raises(Exception):  # noqa: B017, PT011 (it is the storage's own)
                mapping[key] = "value"

        assert list(mapping) == []

    def test_an_absent_key_raises_key_error(self, mapping: Any) -> None:
        """Reading an absent key raises KeyError. It does not return None or ""."""
        mapping["key"] = "value"

        with pytest.raises(KeyError):
            mapping["other"]

    def test_deleting_an_absent_key_raises_key_error(self, mapping: Any) -> None:
        """Deleting an absent key raises KeyError, and removes no other item."""
        mapping["key"] = "value"

        with pytest.raises(KeyError):
            del mapping["other"]

        assert list(mapping) == ["key"]

    def test_a_deleted_key_is_absent(self, mapping: Any) -> None:
        """A deleted key cannot be read, iterated over or deleted again."""
        mapping["key"] = "value"

        del mapping["key"]

        assert list(mapping) == []
        with pytest.raises(KeyError):
            mapping["key"]
        with pytest.raises(KeyError):
            del mapping["key"]

    def test_a_deleted_key_can_be_set_again(self, mapping: Any) -> None:
        """After a deletion, a new value under the same key is read as written."""
        mapping["key"] = "before"
        del mapping["key"]

        mapping["key"] = "after"

        assert mapping["key"] == "after"

    def test_a_second_value_replaces_the_first(self, mapping: Any) -> None:
        """The latest value is read, and the key is listed once."""
        mapping["key"] = "a longer first value"

        mapping["key"] = "second"

        assert mapping["key"] == "second"
        assert list(mapping) == ["key"]

    def test_a_big_value_is_kept_whole(self, mapping: Any) -> None:
        """A value may have a megabyte, and a short one may replace it."""
        big = '{"content":"' + "h\u00e9llo \U0001f600 " * 70_000 + '"}'
        mapping["key"] = big

        assert mapping["key"] == big

        mapping["key"] = "small"

        assert mapping["key"] == "small"

    def test_iteration_gives_each_of_many_keys_once(self, mapping: Any) -> None:
        """Iteration over more than a thousand items, more than one batch of any storage, gives each key once."""
        keys = [f"session/{n:04}" for n in range(1100)]
        for key in keys:
            mapping[key] = "v"

        assert sorted(mapping) == keys

    def test_it_behaves_as_a_dict(self, mapping: Any) -> Any:
        """After any sequence of writes, deletions and reads, it holds the same items as a dict."""
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
    """The contract of a mapping whose items outlive the object.

    It needs a second fixture, `reopen`: a function that opens the same storage again::

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
        """Return a function that opens the storage of `mapping` again."""
        msg = "a subclass of PersistentMappingContract has a fixture `reopen`: a function that opens the storage anew"
        raise NotImplementedError(msg)

    def test_items_outlive_the_object(self, mapping: Any, reopen: Any) -> None:
        """A second object on the storage reads every key and value unchanged."""
        items = {key: f"the value of {key}" for key in self.keys} | VALUES
        for key, value in items.items():
            mapping[key] = value

        other = reopen()

        assert {key: other[key] for key in other} == items

    def test_a_second_object_sees_each_change_at_once(self, mapping: Any, reopen: Any) -> None:
        """Writes, replacements and deletions by one object are visible in another on the same storage."""
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
