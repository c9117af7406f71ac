"""Helpers of the tests of storages on Redis servers and clusters."""

import secrets

from pyai_sessions.storage.protocol import Change, Listing


def new_prefix():
    return f"storage:{secrets.token_hex(8)}:"


class Counted:
    """A client that counts its round trips."""

    def __init__(self, client):
        self._client, self.trips = client, 0

    def __getattr__(self, name):
        return getattr(self._client, name)

    def execute_command(self, *args, **options):
        self.trips += args[0] != "INFO"
        return self._client.execute_command(*args, **options)

    def pipeline(self, **options):
        pipeline = self._client.pipeline(**options)

        def execute(**more):
            self.trips += 1
            return type(pipeline).execute(pipeline, **more)

        pipeline.execute = execute
        return pipeline

    def cost(self, act):
        """Return the round trips of a call."""
        before = self.trips
        act()
        return self.trips - before


def save(revision, before=None, *, place="s", **lists):
    """Return a change of the head of a place; each list is ``name=(old, new)``."""
    return Change(
        expect=[(f"doc/{place}", None if before is None else f"{before}:")],
        done=f"{revision}:",
        put=[(f"doc/{place}", f"{revision}: text".encode())],
        lists=[Listing(name, place, old, new) for name, (old, new) in lists.items()],
    )
