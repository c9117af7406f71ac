"""Broken mappings, and a sound one."""

import pytest

from pyai_sessions.testing import MappingContract, PersistentMappingContract


class OnItems(dict):
    """A dict whose methods the broken ones below override."""


class Sound(OnItems):
    pass


class LosesAWrite(OnItems):
    """Every third write does nothing."""

    writes = 0

    def __setitem__(self, key, value):
        self.writes += 1
        if self.writes % 3:
            super().__setitem__(key, value)


class SwallowsKeyError(OnItems):
    def __getitem__(self, key):
        return self.get(key)


class SwallowsKeyErrorInDel(OnItems):
    def __delitem__(self, key):
        self.pop(key, None)


class GivesTheFirstValue(OnItems):
    """What was read once is read for ever: a cache that is not told."""

    def __init__(self):
        self.cache = {}

    def __getitem__(self, key):
        return self.cache.setdefault(key, super().__getitem__(key))


class ListsNothing(OnItems):
    def __iter__(self):
        return iter(())


class ListsTheFirst100(OnItems):
    def __iter__(self):
        return iter(list(super().__iter__())[:100])


class ListsTwice(OnItems):
    def __iter__(self):
        keys = list(super().__iter__())
        return iter(keys + keys[:1])


class DeletesNothing(OnItems):
    def __delitem__(self, key):
        self[key]


class KeepsTheFirst(OnItems):
    def __setitem__(self, key, value):
        self.setdefault(key, value)


class FoldsCase(OnItems):
    def __setitem__(self, key, value):
        super().__setitem__(key.lower(), value)

    def __getitem__(self, key):
        return super().__getitem__(key.lower())

    def __delitem__(self, key):
        super().__delitem__(key.lower())


class CutsKeys(OnItems):
    """As a column VARCHAR(255) does."""

    def __setitem__(self, key, value):
        super().__setitem__(key[:255], value)

    def __getitem__(self, key):
        return super().__getitem__(key[:255])

    def __delitem__(self, key):
        super().__delitem__(key[:255])


class EndsAtNUL(OnItems):
    def __setitem__(self, key, value):
        super().__setitem__(key, value.split(chr(0))[0])


class StripsValues(OnItems):
    def __setitem__(self, key, value):
        super().__setitem__(key, value.strip())


class CutsValues(OnItems):
    def __setitem__(self, key, value):
        super().__setitem__(key, value[:65535])


class KnowsNoEmoji(OnItems):
    def __setitem__(self, key, value):
        super().__setitem__(key, "".join(c if c < chr(0x10000) else "?" for c in value))


class GivesBytes(OnItems):
    def __getitem__(self, key):
        return super().__getitem__(key).encode()


class Normalises(OnItems):
    def __setitem__(self, key, value):
        import unicodedata

        super().__setitem__(unicodedata.normalize("NFC", key), value)


def contract_of(kind):
    class Test(MappingContract):
        @pytest.fixture
        def mapping(self):
            return kind()

    return Test


for kind in OnItems.__subclasses__():
    globals()[f"Test{kind.__name__}"] = contract_of(kind)


class TestStartsFull(MappingContract):
    @pytest.fixture
    def mapping(self):
        return {"already": "here"}


class TestForgetsOnClose(PersistentMappingContract):
    @pytest.fixture
    def mapping(self):
        return {}

    @pytest.fixture
    def reopen(self):
        return dict
