"""Mappings for the tests of storages: of text, of bytes, a folder of files, and one that fails."""

from collections.abc import MutableMapping
from urllib.parse import quote, unquote

from pyai_sessions.storage.mapping import MappingStorage
from pyai_sessions.testing.storage import derive


def open_storage(mapping, **options):
    """Return a storage on a mapping, with lists derived from the contract's documents."""
    return MappingStorage(mapping, derive=derive, **options)


class Folder:
    """A mapping with a file per item, for any number of processes."""

    def __init__(self, path):
        self.path = path
        path.mkdir(exist_ok=True)

    def file(self, key):
        return self.path / quote(key, safe="", errors="surrogatepass")

    def __getitem__(self, key):
        try:
            return self.file(key).read_bytes().decode()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __setitem__(self, key, value):
        new = self.path / "new,"
        new.write_bytes(value.encode())
        new.replace(self.file(key))

    def __delitem__(self, key):
        try:
            self.file(key).unlink()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __iter__(self):
        return iter([unquote(each.name, errors="surrogatepass") for each in self.path.iterdir() if each.name != "new,"])


class BytesAlone(MutableMapping):
    """Takes only bytes as values, and returns keys and values as bytes, like a dbm file."""

    def __init__(self):
        self.items_ = {}
        self.refused = 0

    def __getitem__(self, key):
        return self.items_[key.encode()]

    def __setitem__(self, key, value):
        if not isinstance(value, bytes):
            self.refused += 1
            msg = f"bytes are taken, not {type(value)}"
            raise TypeError(msg)
        self.items_[key.encode()] = value

    def __delitem__(self, key):
        del self.items_[key.encode()]

    def __iter__(self):
        return iter(list(self.items_))

    def __len__(self):
        return len(self.items_)


class Watched(dict):
    """A dict that records the calls on it, and can fail at one."""

    def __init__(self, *args):
        super().__init__(*args)
        self.log = []
        self.fault = None
        self.due = 0

    def note(self, *what):
        self.log.append(what)
        self.due -= 1
        if self.due == 0 and self.fault is not None:
            raise self.fault

    def fail(self, fault, nth=1):
        self.fault, self.due = fault, nth

    def mend(self):
        self.fault = None

    def __getitem__(self, key):
        self.note("get", key)
        return super().__getitem__(key)

    def __setitem__(self, key, value):
        self.note("put", key)
        super().__setitem__(key, value)

    def __delitem__(self, key):
        self.note("drop", key)
        super().__delitem__(key)

    def __iter__(self):
        self.note("walk")
        return super().__iter__()

    def sync(self):
        self.note("sync")

    def take_log(self):
        log, self.log = self.log, []
        return log
