"""Tests of `pyai_sessions.testing`: what contracts refuse and report, machines, and FaultyMapping."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import settings

from pyai_sessions import KVSessionStore, SessionManager, StorageError
from pyai_sessions.testing import (
    FaultyMapping,
    MappingContract,
    MappingMachine,
    PersistentMappingContract,
    SessionStoreContract,
    SessionStoreMachine,
)

ROOT = Path(__file__).parents[1]


def run_pytest(folder, module, *options):
    """Run a module by a new pytest without our options, and return its output."""
    (folder / "test_mine.py").write_text(textwrap.dedent(module), "utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", *options, str(folder)]
    done = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


# Standard tests stay as they are --------------------------------------------------------------------------------------


def fails_silently(self, mapping):
    """Stand for a test that somebody wants to override."""


@pytest.mark.parametrize("base", [MappingContract, PersistentMappingContract])
@pytest.mark.parametrize(("test", "done"), [(fails_silently, "overrides"), (None, "removes")])
def test_a_standard_test_cannot_be_overridden(base, test, done):
    """Making such a class raises an error with the test, its rule, and how to mark it."""
    with pytest.raises(TypeError) as caught:
        type("TestMine", (base,), {"test_a_deleted_key_is_absent": test})

    text = str(caught.value)
    assert text.startswith(f"TestMine {done} test_a_deleted_key_is_absent, a test of pyai_sessions.testing.mapping: ")
    assert "A deleted key cannot be read" in text
    assert '@pytest.mark.xfail(reason="...")' in text


def test_a_mixin_overrides_no_standard_test_either():
    """A mixin that overrides a test raises, wherever it is among the bases."""
    mixin = type("Mixin", (), {"test_append_adds_messages_in_order": fails_silently})

    with pytest.raises(TypeError, match="TestMine overrides test_append_adds_messages_in_order"):
        type("TestMine", (mixin, SessionStoreContract), {})


@pytest.mark.parametrize("mark", [pytest.mark.skip(reason="later"), pytest.mark.xfail, pytest.mark.xfail(reason="")])
def test_only_an_expected_failure_with_a_reason_overrides(mark):
    """A skip, and an xfail without a reason, raise."""
    with pytest.raises(TypeError):
        type("TestMine", (MappingContract,), {"test_a_deleted_key_is_absent": mark(fails_silently)})


def test_an_override_that_is_expected_to_fail_is_accepted():
    """An xfail with a reason is accepted, and so are fixtures, own tests and subclasses."""
    known = pytest.mark.xfail(reason="deletes lazily")(fails_silently)
    base = type("Mine", (MappingContract,), {"test_a_deleted_key_is_absent": known, "test_mine": fails_silently})

    again = type("TestMine", (base,), {"test_mine": None, "mapping": None})

    assert again.test_a_deleted_key_is_absent is known


# Reports ----------------------------------------------------------------------------------------------------------

STORE = """
    import pytest
    from pyai_sessions import Session, SessionStore
    from pyai_sessions.testing import SessionStoreContract

    class Rows(SessionStore):
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

    class TestRows(SessionStoreContract):
        @pytest.fixture
        def store(self):
            return Rows()
"""


def test_missing_powers_are_reported_without_any_option(tmp_path):
    """Each missing power is a warning that pytest lists, even if warnings are errors."""
    output = run_pytest(tmp_path, STORE, "-q", "-W", "error", "-k", "second or order or revision or damage or threads")

    assert "MissingPowerWarning: Rows has no list_by_activity: lists and counts of all users" in output
    assert "MissingPowerWarning: Rows has no revisions: of two writers at the same moment" in output
    assert " failed" not in output


def test_a_power_that_a_store_must_have_is_missed(tmp_path):
    """A missing power in `must_have` makes its tests fail."""
    output = run_pytest(tmp_path, STORE + '        must_have = ("revisions",)\n', "-q", "-k", "appends_of_threads")

    assert "Rows has no revisions" in output
    assert "1 error" in output


def test_a_failed_rule_shows_its_values(tmp_path):
    """A failed rule shows its values and its docstring."""
    module = """
        import pytest
        from pyai_sessions.testing import MappingContract

        class Lower(dict):
            def __setitem__(self, key, value):
                super().__setitem__(key, value.lower())

        class TestLower(MappingContract):
            @pytest.fixture
            def mapping(self):
                return Lower()
    """

    output = run_pytest(tmp_path, module, "-q", "-k", "kept_as_they_are")

    assert re.search(r"^E +assert '.*hello!.*' == '.*Hello!.*'$", output, re.MULTILINE)
    assert "Any text can be a key and a value" in output


@pytest.mark.parametrize("missing", ["pytest", "hypothesis"])
def test_a_missing_dependency_is_named_with_its_remedy(missing):
    """Without pytest or hypothesis, the import raises an error that says what to install."""
    code = f"import sys; sys.modules[{missing!r}] = None; import pyai_sessions.testing"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "MissingPackageError: pyai_sessions.testing needs pytest and hypothesis; install with: pip install " in (
        done.stderr
    )


# Machines ---------------------------------------------------------------------------------------------------------


class OfADict(MappingMachine):
    def open(self):
        return {}


class OfAStore(SessionStoreMachine):
    def open(self):
        return KVSessionStore({})


TestMachineOfADict = OfADict.TestCase
TestMachineOfAStore = OfAStore.TestCase
TestMachineOfADict.settings = TestMachineOfAStore.settings = settings(max_examples=20)


@pytest.mark.parametrize("machine", [MappingMachine, SessionStoreMachine])
def test_a_machine_says_what_it_needs(machine):
    """A machine without `open` raises an error that says so."""
    with pytest.raises(NotImplementedError, match=f"a subclass of {machine.__name__} has a method `open`"):
        machine()


# FaultyMapping ----------------------------------------------------------------------------------------------------


@pytest.fixture
def items():
    return {}


@pytest.fixture
def mapping(items):
    return FaultyMapping(items)


class TestFaultyMapping(MappingContract):
    """Without a fault it behaves like the mapping inside."""

    @pytest.fixture
    def mapping(self):
        return FaultyMapping({})


def test_a_delete_of_what_is_not_there_is_no_operation(mapping):
    """Deleting an absent key raises KeyError, and is not counted."""
    mapping["a"] = "old"
    mapping.fail(OSError("broken"), of="delete", applied=True)

    with pytest.raises(KeyError):
        del mapping["b"]
    with pytest.raises(OSError, match="broken"):
        del mapping["a"]


def write(mapping, *keys):
    """Write under keys, and return those whose write failed."""
    failed = []
    for key in keys:
        try:
            mapping[key] = "new"
        except OSError:  # noqa: PERF203 (each write has an outcome of its own)
            failed.append(key)
    return failed


@pytest.mark.parametrize(
    ("options", "failed", "stored"),
    [
        ({}, "a", "bcd"),
        ({"at": 3}, "c", "abd"),
        ({"at": 3, "applied": True}, "c", "abcd"),
        ({"at": 2, "once": False}, "bcd", "a"),
        ({"at": 2, "once": False, "applied": True}, "bcd", "ab"),
        ({"at": 9}, "", "abcd"),
    ],
    ids=str,
)
def test_a_write_fails_where_it_is_told_to(mapping, items, options, failed, stored):
    """The n-th write fails, before or after it is applied, once or from then on."""
    mapping.fail(OSError("disk full"), **options)

    assert "".join(write(mapping, *"abcd")) == failed
    assert "".join(items) == stored
    assert mapping.faults == len(failed)


def test_deletes_and_reads_fail_by_themselves_or_together(mapping, items):
    """Each kind of operation has its own plan, unless several are named."""
    items.update(a="1", b="2")
    mapping.fail(OSError, of="delete", applied=True)
    mapping.fail(TimeoutError, of=("read", "write"), at=2)

    with pytest.raises(OSError):  # noqa: PT011 (it has no text)
        del mapping["a"]
    assert items == {"b": "2"}
    assert mapping["b"] == "2"
    with pytest.raises(TimeoutError):
        mapping["b"] = "3"
    mapping["b"] = "4"

    assert (items, mapping.faults) == ({"b": "4"}, 2)


def test_what_is_mended_fails_no_more(mapping):
    """`mend` drops all plans."""
    mapping.fail(OSError, once=False)
    mapping.fail(OSError, of="delete")
    write(mapping, "a")

    mapping.mend()

    assert write(mapping, "a") == []
    del mapping["a"]


@pytest.mark.parametrize("options", [{"at": 0}, {"of": "append"}, {"of": ()}], ids=str)
def test_a_fault_that_cannot_be_is_refused(mapping, options):
    """An invalid plan raises an error that says what is accepted."""
    with pytest.raises(ValueError, match=r"at is 1 .* or more|of is 'write', 'delete' or 'read'"):
        mapping.fail(OSError, **options)


def test_a_save_that_failed_after_it_was_applied_is_repeated(mapping):
    """A save that failed after it was applied can be repeated, and stores nothing twice."""
    manager = SessionManager(mapping)
    session = manager.create_session("ada", session_id="s")
    session.add_message("user", "Hello!")
    mapping.fail(ConnectionResetError(), applied=True)

    with pytest.raises(StorageError):
        manager.save(session)
    manager.save(session)

    assert [each.content for each in manager.get_session("s").messages] == ["Hello!"]
