"""A mapping of text on a mapping of bytes."""

from collections.abc import MutableMapping


class Decoded(MutableMapping):
    """The documents in a mapping of bytes, as text. *encode_key* makes its keys."""

    def __init__(self, mapping, encode_key=str):
        self.mapping = mapping
        self.encode_key = encode_key

    def __getitem__(self, key):
        return bytes(self.mapping[self.encode_key(key)]).decode()

    def __setitem__(self, key, value):
        self.mapping[self.encode_key(key)] = value.encode()

    def __delitem__(self, key):
        del self.mapping[self.encode_key(key)]

    def __iter__(self):
        return (key.decode() if isinstance(key, bytes) else key for key in list(self.mapping.keys()))

    def __len__(self):
        return len(self.mapping)
