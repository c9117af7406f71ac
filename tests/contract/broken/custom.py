"""Broken custom stores, and sound ones."""

# ruff: noqa: BLE001, PERF203, RET503, S110, SIM105 (the classes are broken on purpose)

import pytest

from pyai_sessions import Session, SessionStatus, SessionStore
from pyai_sessions.testing import SessionStoreContract


class Rows(SessionStore):
    """Rows of JSON, as a table has them; the broken stores override a method."""

    def __init__(self):
        self.rows = {}

    def save(self, session):
        self.rows[session.session_id] = session.to_json()

    def get(self, session_id):
        return Session.from_json(self.rows[session_id]) if session_id in self.rows else None

    def delete(self, session_id):
        self.rows.pop(session_id, None)

    def list_for_user(self, user_id):
        return [each for each in map(self.get, list(self.rows)) if each.user_id == user_id]


class Sound(Rows):
    pass


class SoundAsync(Rows):
    async def save(self, session):
        super().save(session)

    async def get(self, session_id):
        return super().get(session_id)

    async def delete(self, session_id):
        super().delete(session_id)

    async def list_for_user(self, user_id):
        return [each for each in map(super().get, list(self.rows)) if each.user_id == user_id]


def changed(session, **fields):
    return Session.from_dict(session.to_dict() | fields)


class LosesEveryThirdSave(Rows):
    saves = 0

    def save(self, session):
        self.saves += 1
        if self.saves % 3:
            super().save(session)


class LosesTheNewestMessage(Rows):
    def save(self, session):
        super().save(changed(session, messages=session.to_dict()["messages"][:-1]))


class KeepsTheNewest50Messages(Rows):
    def save(self, session):
        super().save(changed(session, messages=session.to_dict()["messages"][-50:]))


class StoresMessagesTwice(Rows):
    def save(self, session):
        fields = session.to_dict()
        again = [each | {"message_id": each["message_id"] + "'"} for each in fields["messages"]]
        super().save(changed(session, messages=fields["messages"] + again))


class ForgetsTheOrderOfMessages(Rows):
    def save(self, session):
        messages = sorted(session.to_dict()["messages"], key=lambda each: each["timestamp"], reverse=True)
        super().save(changed(session, messages=messages))


class InsertsOnly(Rows):
    def save(self, session):
        if session.session_id not in self.rows:
            super().save(session)


class DeletesNothing(Rows):
    def delete(self, session_id):
        pass


class BringsBackTheDeleted(Rows):
    """A list that is not told of deletions."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def save(self, session):
        super().save(session)
        self.seen[session.session_id] = session.to_json()

    def list_for_user(self, user_id):
        return [each for each in map(Session.from_json, self.seen.values()) if each.user_id == user_id]


class MatchesUsersByPattern(Rows):
    def list_for_user(self, user_id):
        import fnmatch

        return [s for s in map(self.get, list(self.rows)) if fnmatch.fnmatchcase(s.user_id or "", user_id)]


class FoldsTheCaseOfIds(Rows):
    def save(self, session):
        self.rows[session.session_id.lower()] = session.to_json()

    def get(self, session_id):
        return super().get(session_id.lower())

    def delete(self, session_id):
        super().delete(session_id.lower())


class CutsIds(Rows):
    def save(self, session):
        self.rows[session.session_id[:255]] = session.to_json()

    def get(self, session_id):
        return super().get(session_id[:255])

    def delete(self, session_id):
        super().delete(session_id[:255])


class ListsNothing(Rows):
    def list_for_user(self, user_id):
        return []


class ListsTheFirst25(Rows):
    def list_for_user(self, user_id):
        return super().list_for_user(user_id)[:25]


class ListsActiveOnesOnly(Rows):
    def list_for_user(self, user_id):
        return [each for each in super().list_for_user(user_id) if each.status is SessionStatus.ACTIVE]


class ListsWithoutMessages(Rows):
    def list_for_user(self, user_id):
        return [changed(each, messages=[]) for each in super().list_for_user(user_id)]


class LosesMetadata(Rows):
    def save(self, session):
        super().save(changed(session, metadata={}))


class LosesState(Rows):
    def get(self, session_id):
        session = super().get(session_id)
        return session and changed(session, state={})


class LosesCheckpoints(Rows):
    def save(self, session):
        super().save(changed(session, checkpoints=[]))


class LosesToolCalls(Rows):
    def save(self, session):
        kept = ("role", "content", "message_id", "timestamp")
        messages = [{key: each[key] for key in kept} for each in session.to_dict()["messages"]]
        super().save(changed(session, messages=messages))


class StampsByItsOwnClock(Rows):
    def save(self, session):
        super().save(changed(session, updated_at="2027-01-01T00:00:00Z"))


class CutsTimesToSeconds(Rows):
    def get(self, session_id):
        session = super().get(session_id)
        if session:
            session.updated_at = session.updated_at.replace(microsecond=0)
        return session


class GivesNaiveTimes(Rows):
    def get(self, session_id):
        session = super().get(session_id)
        if session:
            session.updated_at = session.updated_at.replace(tzinfo=None)
        return session


class ForgetsThatItIsArchived(Rows):
    def save(self, session):
        super().save(changed(session, status="active"))


class ForgetsTheNewUser(Rows):
    def save(self, session):
        old = self.get(session.session_id)
        super().save(changed(session, user_id=old.user_id) if old else session)


class RaisesWhereNothingIs(Rows):
    def get(self, session_id):
        return Session.from_json(self.rows[session_id])


class CachesWhatItRead(Rows):
    def __init__(self):
        super().__init__()
        self.cache = {}

    def get(self, session_id):
        if session_id in self.rows:
            return Session.from_json(self.cache.setdefault(session_id, self.rows[session_id]))


class KnowsNoEmoji(Rows):
    def save(self, session):
        fields = session.to_dict()
        for each in fields["messages"]:
            if isinstance(each["content"], str):
                each["content"] = "".join(c if c < chr(0x10000) else "?" for c in each["content"])
        super().save(Session.from_dict(fields))


class ReadsTheUnreadableAsAbsent(Rows):
    def get(self, session_id):
        try:
            return super().get(session_id)
        except Exception:
            return None

    def list_for_user(self, user_id):
        return [each for each in map(super().get, list(self.rows)) if each.user_id == user_id]


class ListsWhatCanBeRead(Rows):
    def list_for_user(self, user_id):
        found = []
        for each in list(self.rows):
            try:
                found.append(self.get(each))
            except Exception:
                pass
        return [each for each in found if each.user_id == user_id]


def contract_of(kind):
    class Test(SessionStoreContract):
        @pytest.fixture
        def store(self):
            return kind()

        @pytest.fixture
        def damage(self, store):
            def damage(session_id):
                store.rows[session_id] = store.rows[session_id][:-30]

            return damage

    return Test


for kind in Rows.__subclasses__():
    globals()[f"Test{kind.__name__}"] = contract_of(kind)


class TestStartsFull(SessionStoreContract):
    @pytest.fixture
    def store(self):
        store = Rows()
        store.save(Session(session_id="already here", user_id="ada"))
        return store


class TestASecondStoreSeesNothing(SessionStoreContract):
    @pytest.fixture
    def store(self):
        return Rows()

    @pytest.fixture
    def reopen(self):
        return Rows


class TestTakesLessThanItSays(SessionStoreContract):
    """What it is said not to take, it takes for something else."""

    def takes_id(self, text):
        return chr(0) not in text

    @pytest.fixture
    def store(self):
        class EndsAtNUL(Rows):
            def save(self, session):
                self.rows[session.session_id.partition(chr(0))[0]] = session.to_json()

        return EndsAtNUL()
