"""A mapping that crashes at a chosen write."""

from collections.abc import MutableMapping


class Death(BaseException):
    """Stands for the end of the process: nothing catches it, nothing is cleaned up."""


class Crashing(MutableMapping):
    """The items of a dict, until `crash` is due: then the n-th write or delete from now on raises.

    Attributes:
        items_: The dict, which outlives the crash.
        crashed: Whether it came to a crash.

    """

    def __init__(self, items):
        self.items_ = items
        self.crashed = False
        self._left = None

    def crash(self, at, error, *, applied=False, once=False):
        """Raise *error* at write number *at* (0: never), *applied* or not, and unless *once* at all later ones."""
        self.crashed = False
        self._left, self._error, self._applied, self._once = at or None, error, applied, once

    def recover(self):
        """Stop crashing."""
        self._left = None

    def _write(self, act):
        if self._left is None:
            act()
            return
        self._left -= 1
        if self._left > 0 or (self._once and self._left < 0):
            act()
            return
        if self._applied and self._left == 0:
            act()
        self.crashed = True
        raise self._error

    def __getitem__(self, key):
        return self.items_[key]

    def __setitem__(self, key, value):
        self._write(lambda: self.items_.__setitem__(key, value))

    def __delitem__(self, key):
        self.items_[key]
        self._write(lambda: self.items_.__delitem__(key))

    def __iter__(self):
        return iter(list(self.items_))

    def __len__(self):
        return len(self.items_)


class CrashingDict(Crashing, dict):
    """The same as a subclass of dict, on which a store makes no trial write. So every write belongs to a call."""
