"""A contract proves something only if what is broken fails it: here broken mappings and stores must."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

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
    import pytest
    from pyai_sessions import KVSessionStore, Session, SessionDeletedError, SessionExistsError
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

    class Broken(KVSessionStore):
        def __init__(self, mapping=None):
            super().__init__({} if mapping is None else mapping, timeout=0.5)

    class SoundStore(Broken):
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
        def save(self, session, *, on_conflict="merge"):
            try:
                super().save(session, on_conflict=on_conflict)
            except SessionExistsError:
                self.delete(session.session_id)
                super().save(session)

    class HidesTheUnreadable(Broken):
        def get(self, session_id, *, last=None):
            try:
                return super().get(session_id, last=last)
            except ValueError:
                raise
            except Exception:
                return None

    class SkipsTheUnreadable(Broken):
        def list_for_user(self, user_id, **options):
            return super().list_for_user(user_id, **options | {"skip_invalid": True})

    class OldestFirst(Broken):
        def list_for_user(self, user_id, **options):
            return super().list_for_user(user_id, **options)[::-1]

    class ForgetsTheLimit(Broken):
        def list_for_user(self, user_id, *, limit=None, **options):
            return super().list_for_user(user_id, **options)

    class ListsArchived(Broken):
        def list_for_user(self, user_id, *, include_archived=False, **options):
            return super().list_for_user(user_id, include_archived=True, **options)

    class CountsAll(Broken):
        def count(self, user_id=None, *, where=None, status=None):
            return super().count(user_id, where=where, status=None)

    class ArchivesAll(Broken):
        def archive_inactive(self, idle_since, progress=None):
            import datetime
            return super().archive_inactive(idle_since + datetime.timedelta(days=10_000), progress)

    class ClearsForeignKeys(Broken):
        def clear(self):
            done = super().clear()
            self.mapping.clear()
            return done

    class AppendsTwice(Broken):
        def append(self, session_id, messages):
            from pyai_sessions import Message
            super().append(session_id, messages)
            super().append(session_id, [Message(each.role, each.content) for each in messages])

    class LoadsTooMuch(Broken):
        def get(self, session_id, *, last=None):
            return super().get(session_id)

    class FindsNoProblem(Broken):
        def verify(self, *, repair=False, progress=None):
            report = super().verify(repair=repair, progress=progress)
            report.problems.clear()
            return report

    class RepairsNothing(Broken):
        def verify(self, *, repair=False, progress=None):
            return super().verify(progress=progress)

    class ReindexesNothing(Broken):
        def reindex(self, progress=None):
            return self.verify(progress=progress).sessions

    class ForgetsTheFilter(Broken):
        def summaries(self, user_id=None, *, where=None, **options):
            return super().summaries(user_id, **options)

    class CountsWithoutTheFilter(Broken):
        def count(self, user_id=None, *, where=None, **options):
            return super().count(user_id, **options)

    class StartsEachPageAnew(Broken):
        def summaries(self, user_id=None, *, cursor=None, **options):
            page = super().summaries(user_id, **options)
            if cursor:
                page.next_cursor = None
            return page

    class ImportsAllAtOnce(Broken):
        def import_sessions(self, sessions, progress=None):
            return super().import_sessions(list(sessions), progress)

    class ImportsOverTheTaken(Broken):
        def import_sessions(self, sessions, progress=None):
            def each():
                for given in sessions:
                    session = given if isinstance(given, Session) else Session.from_dict(given)
                    self.delete(session.session_id)
                    yield session
            return super().import_sessions(each(), progress)

    class ImportsBySaving(Broken):
        def import_sessions(self, sessions, progress=None):
            done = 0
            for done, each in enumerate(sessions, 1):
                self.save(each if isinstance(each, Session) else Session.from_dict(each))
            return done

    class AppendsToWhatItRemembers(Broken):
        def __init__(self, mapping=None):
            super().__init__(mapping)
            self.remembered = {}
        def append(self, session_id, messages):
            session = self.remembered.get(session_id) or self.get(session_id)
            if session is None:
                return super().append(session_id, messages)
            for each in messages:
                session.add_message(each.role, each.content, message_id=each.message_id)
            self.save(session, on_conflict="overwrite")
            self.remembered[session_id] = session

    def contract_of(kind):
        class Test(KVSessionStoreContract):
            @pytest.fixture
            def store(self):
                return kind() if issubclass(kind, Broken) else Broken(kind())
            @pytest.fixture
            def reopen(self, store):
                return lambda: type(store)(store.mapping)
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

# What keeps a class's further tests from running once one failed: that one is what it is here for.
FIRST_FAILURE_IS_ENOUGH = """
    import pytest

    failed = set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(item, call):
        report = (yield).get_result()
        if report.failed:
            failed.add(item.cls)

    def pytest_runtest_setup(item):
        if item.cls in failed:
            pytest.skip("its class failed already")
"""


def run(folder, module):
    """Run a module of contract classes; return by class how many of its tests passed, failed and ended in an error."""
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
        timeout=120,
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
    ("module", "sound"), [(MAPPINGS, ["Sound"]), (STORES, ["SoundMapping", "SoundStore"])], ids=["mapping", "store"]
)
def test_what_is_broken_fails_its_contract_and_what_is_sound_passes(tmp_path, module, sound):
    """Each broken mapping and store fails a test (a failure, not an error of its fixtures); sound ones fail none."""
    counts = run(tmp_path, module)

    assert len(counts) >= 15
    assert [name for name, each in counts.items() if not each["failure"]] == sound
    assert [name for name, each in counts.items() if each["error"]] == []
