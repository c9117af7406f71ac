"""Broken mappings and stores, each of which must fail its contract."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytestmark = pytest.mark.wide

ROOT = Path(__file__).parents[2]
OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull]

MAPPINGS = '''
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
'''

STORES = """
    from dataclasses import replace
    import pytest
    from pyai_sessions import (
        ANYONE, Erasure, Imported, KVSessionStore, Message, Session, SessionArchivedError, SessionDeletedError,
        SessionExistsError, SessionManager,
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
                super().save(Session.from_dict(session.to_dict()))

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
"""

CUSTOM = """
    import datetime
    import pytest
    from pyai_sessions import Session, SessionStatus, SessionStore
    from pyai_sessions.testing import SessionStoreContract

    class Rows(SessionStore):
        \"\"\"Rows of JSON, as a table has them; the broken stores override a method.\"\"\"
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
        \"\"\"A list that is not told of deletions.\"\"\"
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
        \"\"\"What it is said not to take, it takes for something else.\"\"\"
        def takes_id(self, text):
            return chr(0) not in text
        @pytest.fixture
        def store(self):
            class EndsAtNUL(Rows):
                def save(self, session):
                    self.rows[session.session_id.partition(chr(0))[0]] = session.to_json()
            return EndsAtNUL()
"""

POWERS = """
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
        \"\"\"It goes on behind the time, not behind the time and id.\"\"\"
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
        \"\"\"A counter in the row: a session created anew begins at 1 again.\"\"\"
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
"""

# For each broken class, run the rule that catches it; without an entry run all rules up to the first failure.
# For sound classes run every rule that catches something. Other files run the whole contract on their like.
CAUGHT_BY = json.loads(Path(__file__).with_name("caught_by.json").read_text("utf-8"))
"""By kind, the rule that catches each broken class. Sound classes have no entry."""

FIRST_FAILURE_IS_ENOUGH = """
    import json
    from pathlib import Path

    import pytest

    rules = json.loads(Path(__file__).with_name("rules.json").read_text())
    failed = set()

    def pytest_collection_modifyitems(items):
        wanted = [(each, rules.get(each.parent.name.removeprefix("Test"))) for each in items]
        items[:] = [each for each, names in wanted if names is None or each.originalname in names]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(item, call):
        report = (yield).get_result()
        if report.failed:
            failed.add(item.cls)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(item, nextitem):
        if item.cls not in failed:
            return None
        item.session._setupstate.teardown_exact(nextitem)  # as the end of a test that ran does
        return True
"""


def run(folder, module, rules):
    """Run a module of contract classes, and only these *rules* if given.

    Return by class how many tests passed, failed and ended in an error.
    """
    (folder / "rules.json").write_text(json.dumps(rules))
    (folder / "conftest.py").write_text(textwrap.dedent(FIRST_FAILURE_IS_ENOUGH))
    (folder / "test_broken.py").write_text(textwrap.dedent(module))
    report = folder / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, "--rootdir", folder, "--junitxml", report, folder],
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # 1: tests ran, some failed
    counts = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 (pytest wrote it, just now)
        name = case.get("classname").rpartition(".Test")[2]
        found = next((each.tag for each in case if each.tag in ("failure", "error", "skipped")), "passed")
        counts.setdefault(name, dict.fromkeys(("passed", "failure", "error", "skipped"), 0))[found] += 1
    return counts


@pytest.mark.parametrize(
    ("kind", "module", "sound"),
    [
        ("mapping", MAPPINGS, ["Sound"]),
        ("store", STORES, ["SoundMapping", "SoundManager"]),
        ("custom", CUSTOM, ["Sound", "SoundAsync"]),
        ("powers", POWERS, ["Sound"]),
    ],
    ids=["mapping", "store", "custom", "powers"],
)
def test_what_is_broken_fails_its_contract_and_what_is_sound_passes(tmp_path, kind, module, sound):
    """Each broken class fails a rule, without an error of its fixtures. Sound classes fail none."""
    catching = CAUGHT_BY[kind]
    rules = {name: [rule] for name, rule in catching.items()} | dict.fromkeys(sound, sorted({*catching.values()}))
    counts = run(tmp_path, module, rules)

    assert counts.keys() >= rules.keys()
    assert [name for name, each in counts.items() if not each["failure"]] == sound
    assert [name for name, each in counts.items() if each["error"]] == []
