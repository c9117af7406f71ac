"""Encrypted storages for the contract: lists are asked for by names of users, which come back hashed."""

from pyai_sessions import Encrypted
from pyai_sessions.encryption.storage import EncryptedStorage
from pyai_sessions.storage.protocol import Change

INDEX, OLD, NEW = b"i" * 32, b"o" * 32, b"n" * 32
FIRST, BOTH, LAST = {"index": INDEX, "old": OLD}, {"index": INDEX, "old": OLD, "new": NEW}, {"index": INDEX, "new": NEW}


def sealer(keys=FIRST, **options):
    return Encrypted({}, keys, **options).sealer


def encrypted(inner, keys=FIRST, **options):
    return EncryptedStorage(inner, sealer(keys, **options))


class Told(EncryptedStorage):
    """An encrypted storage whose `listings` give the names by which lists were written."""

    def __init__(self, inner, sealer, names):
        super().__init__(inner, sealer)
        self.told = names

    def write(self, changes):
        self.told |= {self.names.names(each.list)[0]: each.list for change in changes for each in change.lists}
        return super().write(changes)

    def listings(self, of=None, *, prefix=""):
        found = super().listings(of)
        told = ((self.told.get(name, name), *rest) for name, *rest in found)
        return (each for each in told if each[0].startswith(prefix))


def put(storage, key, text, lists=()):
    """Put a document, and change lists."""
    assert storage.write([Change(put=[(key, text)], lists=lists)]) == [True]
