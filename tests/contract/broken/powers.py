"""Custom stores whose optional methods are broken, and a sound one."""

import pytest

from pyai_sessions.testing import SessionStoreContract
from tests.contract.stores import FullStore


class Sound(FullStore):
    pass


class ListsBackwards(FullStore):
    def list_by_activity(self, after, limit):
        return super().list_by_activity(after, limit)[::-1]


class ListsInOrderOfIds(FullStore):
    def list_by_activity(self, after, limit):
        found = sorted(map(self.read, list(self.rows)), key=lambda each: each.session_id)
        return [each for each in found if after is None or each.session_id > after[1]][:limit]


class DropsThoseOfOneTime(FullStore):
    """It goes on behind the time, not behind the time and id."""

    def list_by_activity(self, after, limit):
        found = super().list_by_activity(None, 10_000)
        return [each for each in found if after is None or each.updated_at > after[0]][:limit]


class ListsActiveOnesOnly(FullStore):
    def list_by_activity(self, after, limit):
        return [s for s in super().list_by_activity(after, 10_000) if s.status == "active"][:limit]


class ListsUsersOnly(FullStore):
    def list_by_activity(self, after, limit):
        return [s for s in super().list_by_activity(after, 10_000) if s.user_id is not None][:limit]


class ComparesNoRevision(FullStore):
    def save(self, session):
        self.write(session)


class InsertsOverTheTaken(FullStore):
    def save(self, session):
        if session.revision is None:
            self.write(session)
        else:
            super().save(session)


class BringsBackTheDeleted(FullStore):
    def save(self, session):
        if session.session_id not in self.rows:
            self.write(session)
        else:
            super().save(session)


class UsesARevisionAgain(FullStore):
    """A counter in the row: a session created anew begins at 1 again."""

    def write(self, session):
        from itertools import count

        stored, _ = self.rows.get(session.session_id, ("0", None))
        self.revisions = count(int(stored) + 1)
        super().write(session)


def contract_of(kind):
    class Test(SessionStoreContract):
        must_have = ("list_by_activity", "revisions")

        @pytest.fixture
        def store(self):
            return kind()

    return Test


for kind in FullStore.__subclasses__():
    globals()[f"Test{kind.__name__}"] = contract_of(kind)
