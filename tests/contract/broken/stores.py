"""Broken mappings below a store, broken managers, and sound ones."""

# ruff: noqa: B007, BLE001, RET503 (the classes are broken on purpose)

from dataclasses import replace

import pytest

from pyai_sessions import (
    ANYONE,
    Erasure,
    Imported,
    KVSessionStore,
    Message,
    Session,
    SessionArchivedError,
    SessionDeletedError,
    SessionExistsError,
    SessionManager,
)
from pyai_sessions.testing import KVSessionStoreContract


class OnItems(dict):
    pass


class SoundMapping(OnItems):
    pass


class LosesAWrite(OnItems):
    writes = 0

    def __setitem__(self, key, value):
        self.writes += 1
        if self.writes % 5:
            super().__setitem__(key, value)


class LosesPages(OnItems):
    def __setitem__(self, key, value):
        if not key.startswith("messages/") or not key.endswith("/1"):
            super().__setitem__(key, value)


class GivesTheFirstValue(OnItems):
    def __init__(self):
        self.cache = {}

    def __getitem__(self, key):
        return self.cache.setdefault(key, super().__getitem__(key))


class ListsNothing(OnItems):
    def __iter__(self):
        return iter(())


class DeletesNothing(OnItems):
    def __delitem__(self, key):
        self[key]


class FoldsCase(OnItems):
    def __setitem__(self, key, value):
        super().__setitem__(key.lower(), value)

    def __getitem__(self, key):
        return super().__getitem__(key.lower())


class CutsKeys(OnItems):
    def __setitem__(self, key, value):
        super().__setitem__(key[:255], value)

    def __getitem__(self, key):
        return super().__getitem__(key[:255])


class CutsValues(OnItems):
    def __setitem__(self, key, value):
        super().__setitem__(key, value[:30000])


class KnowsNoEmoji(OnItems):
    def __setitem__(self, key, value):
        super().__setitem__(key, "".join(c if c < chr(0x10000) else "?" for c in value))


class Broken(SessionManager):
    pass


class SoundManager(Broken):
    pass


class LastWriterWins(Broken):
    def save(self, session, *, on_conflict="merge"):
        super().save(session, on_conflict="overwrite" if on_conflict == "merge" else on_conflict)


class BringsBackTheDeleted(Broken):
    def save(self, session, *, on_conflict="merge"):
        try:
            super().save(session, on_conflict=on_conflict)
        except SessionDeletedError:
            self.import_sessions([session])


class ReplacesTheTaken(Broken):
    def create_session(self, user_id=None, *, session_id=None, **options):
        if session_id is not None:
            self.delete(session_id)
        return super().create_session(user_id, session_id=session_id, **options)

    def save(self, session, *, on_conflict="merge"):
        try:
            super().save(session, on_conflict=on_conflict)
        except SessionExistsError:
            self.delete(session.session_id)
            super().save(session)


class HidesTheUnreadable(Broken):
    def get_session(self, session_id, **options):
        try:
            return super().get_session(session_id, **options)
        except ValueError:
            raise
        except Exception:
            return None


class SkipsTheUnreadable(Broken):
    def get_sessions_for_user(self, user_id, **options):
        return super().get_sessions_for_user(user_id, **options | {"skip_invalid": True})


class OldestFirst(Broken):
    def get_sessions_for_user(self, user_id, **options):
        return super().get_sessions_for_user(user_id, **options)[::-1]


class ForgetsTheLimit(Broken):
    def get_sessions_for_user(self, user_id, *, limit=None, **options):
        return super().get_sessions_for_user(user_id, **options)


class ListsArchived(Broken):
    def get_sessions_for_user(self, user_id, *, include_archived=False, **options):
        return super().get_sessions_for_user(user_id, include_archived=True, **options)


class CountsAll(Broken):
    def count(self, user_id=ANYONE, *, where=None, status=None):
        return super().count(user_id, where=where, status=None)


class ArchivesAll(Broken):
    def archive_inactive(self, days=30, **options):
        return super().archive_inactive(0, **options)


class ClearsForeignKeys(Broken):
    def clear_all(self):
        done = super().clear_all()
        self.store.mapping.clear()
        return done


class AppendsTwice(Broken):
    def append(self, session_id, *messages, **options):
        super().append(session_id, *messages, **options)
        again = [each.to_dict() if isinstance(each, Message) else {**each} for each in messages]
        for each in again:
            each.pop("message_id", None)
        super().append(session_id, *again, **options)


class GivesToStrangers(Broken):
    def get_session(self, session_id, *, user_id=ANYONE, **options):
        return super().get_session(session_id, **options)


class AppendsForStrangers(Broken):
    def append(self, session_id, *messages, user_id=ANYONE):
        return super().append(session_id, *messages)


class DeletesForStrangers(Broken):
    def delete(self, session_id, *, user_id=ANYONE, **options):
        return super().delete(session_id, **options)


class ForksForStrangers(Broken):
    def fork(self, *arguments, owned_by=None, **options):
        return super().fork(*arguments, **options)


class ShowsStrangersWhatIsArchived(Broken):
    def append(self, session_id, *messages, user_id=ANYONE):
        session = self.get_session(session_id)
        if session and session.status == "archived":
            raise SessionArchivedError(session_id)
        return super().append(session_id, *messages, user_id=user_id)


class ErasesWhatIsListed(Broken):
    def delete_user(self, user_id, *, scan=False):
        found = self.get_sessions_for_user(user_id, include_archived=True, skip_invalid=True)
        return Erasure(sorted(each.session_id for each in found if self.delete(each.session_id)))


class ErasesSilently(Broken):
    def delete_user(self, user_id, *, scan=False):
        return replace(super().delete_user(user_id, scan=scan), shared=[])


class ExportsWithoutBranches(Broken):
    def export_sessions(self, file, *, user_id, **_):
        found = self.get_sessions_for_user(user_id, include_archived=True)
        file.writelines(each.to_json() + chr(10) for each in found)
        return len(found)


class LoadsTooMuch(Broken):
    def get_session(self, session_id, *, last=None, **options):
        return super().get_session(session_id, **options)


class FindsNoProblem(Broken):
    def verify(self, *, repair=False, progress=None):
        report = super().verify(repair=repair, progress=progress)
        report.problems.clear()
        return report


class RepairsNothing(Broken):
    def verify(self, *, repair=False, progress=None):
        return super().verify(progress=progress)


class ReindexesNothing(Broken):
    def reindex(self, *, progress=None):
        return self.verify(progress=progress).sessions


class ForgetsTheFilter(Broken):
    def list_sessions(self, user_id=ANYONE, *, where=None, **options):
        return super().list_sessions(user_id, **options)


class CountsWithoutTheFilter(Broken):
    def count(self, user_id=ANYONE, *, where=None, **options):
        return super().count(user_id, **options)


class SearchesForStrangers(Broken):
    def search(self, query, user_id=ANYONE, **options):
        return super().search(query, **options)


class SearchesTheArchived(Broken):
    def search(self, query, user_id=ANYONE, *, status=None, **options):
        return super().search(query, user_id, status=None, **options)


class SearchesTheNewestPage(Broken):
    def search(self, *query, **options):
        found = super().search(*query, **options)
        found[:] = [each for each in found if each.position >= 32]
        return found


class SearchesInOneCase(Broken):
    def search(self, query, *user, **options):
        found = super().search(query, *user, **options)
        found[:] = [each for each in found if query in each.snippet]
        return found


class RemembersWhatItFound(Broken):
    def search(self, *query, **options):
        remembered = vars(self).setdefault("remembered", {})
        return remembered.setdefault(str((query, options)), super().search(*query, **options))


class FindsEachPageAnew(Broken):
    def search(self, *query, cursor=None, **options):
        found = super().search(*query, **options)
        if cursor:
            found.next_cursor = None
        return found


class FindsWithoutContext(Broken):
    def search(self, *query, context=0, **options):
        return super().search(*query, **options)


class FindsWithTheIndexAlone(Broken):
    def build_search_index(self, *arguments, **options):
        self.indexed = True
        return super().build_search_index(*arguments, **options)

    def drop_search_index(self):
        self.indexed = False

    def search(self, *query, **options):
        found = super().search(*query, **options)
        if vars(self).get("indexed"):
            found[:] = [each for each in found if each.position < 50]
        return found


class StartsEachPageAnew(Broken):
    def list_sessions(self, user_id=ANYONE, *, cursor=None, **options):
        page = super().list_sessions(user_id, **options)
        if cursor:
            page.next_cursor = None
        return page


class ImportsAllAtOnce(Broken):
    def import_sessions(self, sessions, **options):
        return super().import_sessions(list(sessions), **options)


class ImportsOverTheTaken(Broken):
    def import_sessions(self, sessions, **options):
        def each():
            for given in sessions:
                session = given if isinstance(given, Session) else Session.from_dict(given)
                self.delete(session.session_id)
                yield session

        return super().import_sessions(each(), **options)


class ImportsBySaving(Broken):
    def import_sessions(self, sessions, **options):
        done = 0
        for done, each in enumerate(sessions, 1):
            self.save(each if isinstance(each, Session) else Session.from_dict(each))
        return Imported(done)


class ImportsWithoutALook(Broken):
    def import_sessions(self, sessions, **options):
        report = super().import_sessions(sessions, **options)
        return Imported(report.inserted, report.identical + report.different)


class AppendsToWhatItRemembers(Broken):
    def append(self, session_id, *messages, **options):
        remembered = vars(self).setdefault("remembered", {})
        session = remembered.get(session_id) or self.get_session(session_id)
        if session is None:
            return super().append(session_id, *messages, **options)
        for each in messages:
            made = each if isinstance(each, Message) else Message(**each)
            session.add_message(made.role, made.content, message_id=made.message_id)
        self.save(session, on_conflict="overwrite")
        remembered[session_id] = session


def contract_of(kind):
    class Test(KVSessionStoreContract):
        manager_class = kind if issubclass(kind, SessionManager) else SessionManager

        @pytest.fixture
        def store(self):
            return KVSessionStore(kind() if issubclass(kind, OnItems) else {}, timeout=0.5)

        @pytest.fixture
        def reopen(self, store):
            return lambda: KVSessionStore(store.mapping, timeout=0.5)

    return Test


for kind in OnItems.__subclasses__() + Broken.__subclasses__():
    globals()[f"Test{kind.__name__}"] = contract_of(kind)


class TestStartsFull(KVSessionStoreContract):
    @pytest.fixture
    def store(self):
        store = KVSessionStore({})
        store.save(Session(session_id="already here"))
        return store


class TestASecondStoreSeesNothing(KVSessionStoreContract):
    @pytest.fixture
    def store(self):
        return {}

    @pytest.fixture
    def reopen(self):
        return lambda: KVSessionStore({})
