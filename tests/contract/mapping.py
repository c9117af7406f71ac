"""The contract of a mapping of text: what sessions need of whatever they are stored in.

A mapping's own test subclasses `MappingContract` and names its storage in the fixture `mapping`; one whose items
outlive the object subclasses `PersistentMappingContract` and adds `reopen`.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

KEYS = {
    "plain": "session/sess_abc",
    "page": "messages/sess_abc/a1B2-_/0",
    "no slash": "key",
    "slashes": "a//b///c/",
    "only a slash": "/",
    "leading slash": "/a",
    "trailing slash": "a/",
    "colons": "a:b::c",
    "glob": "a*b?c[d]e^f",
    "braces": "{a}/{b}",
    "percent": "100%/%2F/%",
    "backslash": "a\\b\\",
    "quotes": 'it\'s "quoted"`',
    "newline": "a\nb\r\nc",
    "tab": "a\tb",
    "spaces": " a b ",
    "NUL": "a\0b",
    "ends in NUL": "a\0",
    "dots": "../..",
    "dot": ".",
    "accents": "h\u00e9llo",
    "decomposed accents": "he\u0301llo",
    "emoji": "\U0001f600/\U0001f469\u200d\U0001f4bb",
    "upper case": "KEY",
    "underscore": "k_y",
    "1 KiB": "k" * 1024,
    "1 KiB of another": "k" * 1023 + "j",
}
VALUES = {
    "empty": "",
    "JSON": '{"format":1,"messages":[{"role":"user","content":"Hello!"}]}',
    "number": "12",
    "NUL": "a\0b\0",
    "newlines": "a\nb\r\nc\rd",
    "spaces": "  a  ",
    "emoji": "\U0001f600 \U0001f469\u200d\U0001f4bb",
    "every plane": "\x01\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff",
    "quotes": "'\"\\`",
}

# Text that UTF-8 can hold: documents escape lone surrogates, and ids are percent-encoded in keys.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SOME_KEYS = TEXT | st.sampled_from(sorted(KEYS.values()))


class MappingContract:
    """What `[k]`, `[k] = v`, `del` and `iter` do. Subclass it and give it a fixture `mapping`, an empty one."""

    @pytest.fixture
    def mapping(self):
        msg = "a subclass of MappingContract has a fixture `mapping` that gives an empty mapping"
        raise NotImplementedError(msg)

    def test_a_new_mapping_is_empty(self, mapping):
        """The fixture gives an empty mapping, or the other tests would prove nothing."""
        assert list(mapping) == []

    def test_keys_and_values_are_kept_as_they_are(self, mapping):
        """Any text is a key and any text a value, and both come back unchanged, as text."""
        pairs = [*((key, "value") for key in KEYS.values()), *(("key", value) for value in VALUES.values())]
        for key, value in pairs:
            mapping[key] = value

            assert mapping[key] == value
            assert type(mapping[key]) is str
            assert list(mapping) == [key]

            del mapping[key]

    def test_no_key_is_taken_for_another(self, mapping):
        """Keys that look alike are different items."""
        for key in KEYS.values():
            mapping[key] = f"the value of {key}"

        assert sorted(mapping) == sorted(KEYS.values())
        assert {key: mapping[key] for key in mapping} == {key: f"the value of {key}" for key in KEYS.values()}

    def test_deleting_a_key_leaves_those_that_look_like_it(self, mapping):
        """One item goes, and no other."""
        for key in KEYS.values():
            mapping[key] = key

        gone = list(KEYS.values())[::2]
        for key in gone:
            del mapping[key]

        assert sorted(mapping) == sorted(set(KEYS.values()) - set(gone))

    def test_an_absent_key_raises_key_error(self, mapping):
        """Reading what is not there raises KeyError: neither None nor an empty text."""
        mapping["key"] = "value"

        with pytest.raises(KeyError):
            mapping["other"]

    def test_deleting_an_absent_key_raises_key_error(self, mapping):
        """So does deleting it, and the others stay."""
        mapping["key"] = "value"

        with pytest.raises(KeyError):
            del mapping["other"]

        assert list(mapping) == ["key"]

    def test_a_deleted_key_is_absent(self, mapping):
        """What was deleted can neither be read nor found by iterating, nor deleted again."""
        mapping["key"] = "value"

        del mapping["key"]

        assert list(mapping) == []
        with pytest.raises(KeyError):
            mapping["key"]
        with pytest.raises(KeyError):
            del mapping["key"]

    def test_a_deleted_key_can_be_set_again(self, mapping):
        """Deleting leaves nothing behind that would hide a later value."""
        mapping["key"] = "before"
        del mapping["key"]

        mapping["key"] = "after"

        assert mapping["key"] == "after"

    def test_a_second_value_replaces_the_first(self, mapping):
        """The latest value counts, and the key is there once."""
        mapping["key"] = "a longer first value"

        mapping["key"] = "second"

        assert mapping["key"] == "second"
        assert list(mapping) == ["key"]

    def test_a_big_value_is_kept_whole(self, mapping):
        """A value of a megabyte is one value, and can shrink again."""
        big = '{"content":"' + "h\u00e9llo \U0001f600 " * 70_000 + '"}'
        mapping["key"] = big

        assert mapping["key"] == big

        mapping["key"] = "small"

        assert mapping["key"] == "small"

    def test_iteration_gives_each_of_many_keys_once(self, mapping):
        """A thousand and more items: more than one batch of any storage."""
        keys = [f"session/{n:04}" for n in range(1100)]
        for key in keys:
            mapping[key] = "v"

        assert sorted(mapping) == keys

    def test_it_behaves_as_a_dict(self, mapping):  # noqa: C901 (a machine's rules share what they act on)
        """After any sequence of writes, deletions and reads it holds what a dict holds."""

        class Machine(RuleBasedStateMachine):
            def __init__(self):
                super().__init__()
                self.model = {}
                for key in list(mapping):
                    del mapping[key]

            @rule(key=SOME_KEYS, value=TEXT)
            def write(self, key, value):
                mapping[key] = self.model[key] = value

            @rule(data=st.data(), value=TEXT)
            def write_again(self, data, value):
                if self.model:
                    key = data.draw(st.sampled_from(sorted(self.model)))
                    mapping[key] = self.model[key] = value

            @rule(data=st.data())
            def delete(self, data):
                if self.model:
                    key = data.draw(st.sampled_from(sorted(self.model)))
                    del mapping[key], self.model[key]

            @rule(key=SOME_KEYS)
            def read(self, key):
                if key in self.model:
                    assert mapping[key] == self.model[key]
                else:
                    with pytest.raises(KeyError):
                        mapping[key]

            @invariant()
            def same(self):
                assert sorted(mapping) == sorted(self.model)
                assert {key: mapping[key] for key in mapping} == self.model

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=10,
                stateful_step_count=15,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


class PersistentMappingContract(MappingContract):
    """That of a mapping whose items outlive the object: `reopen()` opens the same storage anew."""

    @pytest.fixture
    def reopen(self):
        msg = "a subclass of PersistentMappingContract has a fixture `reopen`: a function that opens the storage anew"
        raise NotImplementedError(msg)

    def test_items_outlive_the_object(self, mapping, reopen):
        """Opened anew, the storage holds every key and value as they were."""
        items = {key: f"the value of {key}" for key in KEYS.values()} | VALUES
        for key, value in items.items():
            mapping[key] = value

        other = reopen()

        assert {key: other[key] for key in other} == items

    def test_a_second_object_sees_each_change_at_once(self, mapping, reopen):
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
